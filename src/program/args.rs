//! The command line.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use log::LevelFilter;
use structopt::StructOpt;
use structopt::clap::{AppSettings, ErrorKind, Shell};

use super::ctl::Ctl;

/// An MQTT server for versions 3.1, 3.1.1 and 5.0, over TCP, TLS, WebSocket and Unix sockets.
///
/// `hrotti passwd` makes and changes password files, `hrotti -conf FILE explain` says what a Client may do, and
/// `hrotti ctl` shows and steers a running server. SIGHUP has it read its configuration again.
///
/// Without -conf, the variable HROTTI_URL names the address of the only listener (tcp://HOST:PORT or
/// ws://HOST:PORT/PATH; the host * is every interface). Without either, it listens on
/// tcp://0.0.0.0:1883. SIGINT and SIGTERM stop it in good order; a second signal ends it at once.
#[derive(Debug, PartialEq, StructOpt)]
#[structopt(name = "hrotti", setting = AppSettings::DisableVersion)]
pub(crate) struct Args {
    /// Read the configuration from this JSON file; also -conf PATH and -conf=PATH
    #[structopt(long, value_name = "PATH", parse(from_os_str))]
    pub(crate) conf: Option<PathBuf>,

    /// Print the configuration, or every error in it, and exit; also -check
    #[structopt(long)]
    pub(crate) check: bool,

    /// With -check: print what would change from this configuration, or in the server with this admin URL
    #[structopt(long, value_name = "PATH or URL", parse(from_os_str), requires = "check")]
    pub(crate) against: Option<PathBuf>,

    /// Serve metrics, a JSON API and a page at this URL, for example http://127.0.0.1:9884
    #[structopt(long, value_name = "URL")]
    pub(crate) admin: Option<String>,

    /// Log at this level and above: off, error, warn, info, debug or trace
    #[structopt(
        long,
        value_name = "LEVEL",
        case_insensitive = true,
        possible_values = &["off", "error", "warn", "info", "debug", "trace"],
        hide_possible_values = true
    )]
    log_level: Option<LevelFilter>,

    /// Log more: -v is level debug, -vv is level trace
    #[structopt(short, parse(from_occurrences), conflicts_with = "log-level")]
    verbose: u8,

    #[structopt(subcommand)]
    pub(crate) command: Option<Command>,

    // The parser's own flag prints by itself and panics if the standard output is closed.
    /// Print version information
    #[structopt(short = "V", long)]
    version: bool,
}

/// What to do instead of serving.
#[derive(Debug, PartialEq, StructOpt)]
pub(crate) enum Command {
    /// Say whether a Client may connect, publish, subscribe or receive, and which rule decides
    Explain(Question),
    /// Make and change password files: see hrotti passwd --help
    // It has a command line of its own, which is read before this one.
    Passwd,
    /// See and steer a running server through its admin listener
    Ctl(Ctl),
    /// Print the manual page, in roff: hrotti manual | man -l -
    Manual,
    /// Print completions of the command line for a shell
    Completions {
        /// The shell: bash, zsh, fish, powershell or elvish
        #[structopt(value_name = "SHELL", possible_values = &Shell::variants(), hide_possible_values = true)]
        shell: String,
    },
}

/// Say whether a Client may do something by the configuration, with the file and line of the rule that decides.
///
/// Exit code 0 is yes, 1 is no, 2 is no answer: the command line or the configuration cannot be used.
#[derive(Debug, Default, PartialEq, StructOpt)]
#[structopt(settings = &[AppSettings::DisableVersion, AppSettings::DeriveDisplayOrder])]
pub(crate) struct Question {
    /// What the Client does: connect, publish, subscribe or receive
    #[structopt(value_name = "ACTION", possible_values = &["connect", "publish", "subscribe", "receive"])]
    pub(crate) action: String,

    /// The topic to publish to or receive from, or the filter to subscribe with
    #[structopt(
        value_name = "TOPIC",
        required_if("action", "publish"),
        required_if("action", "subscribe"),
        required_if("action", "receive")
    )]
    pub(crate) topic: Option<String>,

    /// The Client Identifier
    #[structopt(long, value_name = "ID", default_value = "explain")]
    pub(crate) client: String,

    /// The user name; without it the Client is anonymous
    #[structopt(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// Read the password or token from the first line of the standard input, and check it
    #[structopt(long)]
    pub(crate) password_stdin: bool,

    /// The address of the Client
    #[structopt(long, value_name = "ADDRESS")]
    pub(crate) address: Option<IpAddr>,

    /// The name of the listener; needed if there are several
    #[structopt(long, value_name = "NAME")]
    pub(crate) listener: Option<String>,

    /// The version of MQTT: 3.1, 3.1.1 or 5.0
    #[structopt(long, value_name = "VERSION", default_value = "5.0", possible_values = &["3.1", "3.1.1", "5.0"])]
    pub(crate) version: String,

    /// Answer in JSON
    #[structopt(long)]
    pub(crate) json: bool,
}

/// Why the command line names no configuration to run.
#[derive(Debug, PartialEq)]
pub(crate) enum Usage {
    /// It asks for the help or the version: the text to print.
    Asked(String),
    /// It is not valid: the error to print.
    Wrong(String),
}

impl Args {
    /// Reads the command line, program name first.
    pub(crate) fn read(argv: impl IntoIterator<Item = OsString>) -> Result<Args, Usage> {
        let argv: Vec<OsString> = argv.into_iter().map(with_two_dashes).collect();
        let args = match argv.split_first() {
            // The parser brings options from behind a command to their place only from the first level of commands.
            Some((_, rest)) if rest.first().is_some_and(|first| first == "ctl") => {
                let ctl = Ctl::clap().bin_name("hrotti ctl").get_matches_from_safe(rest);
                ctl.map(|ctl| Args::of(Command::Ctl(Ctl::from_clap(&ctl))))
            }
            _ => Args::from_iter_safe(argv),
        };
        match args {
            Ok(args) if args.version => {
                Err(Usage::Asked(concat!("hrotti ", env!("CARGO_PKG_VERSION")).to_owned()))
            }
            Ok(args) => Ok(args),
            Err(error) if error.kind == ErrorKind::HelpDisplayed => {
                Err(Usage::Asked(error.message))
            }
            Err(error) => Err(Usage::Wrong(error.message)),
        }
    }

    /// A command line with this command and nothing else.
    fn of(command: Command) -> Args {
        Args {
            conf: None,
            check: false,
            against: None,
            admin: None,
            log_level: None,
            verbose: 0,
            command: Some(command),
            version: false,
        }
    }

    /// The log level of `--log-level` or `-v`, if one was given.
    pub(crate) fn level(&self) -> Option<LevelFilter> {
        match self.verbose {
            0 => self.log_level,
            1 => Some(LevelFilter::Debug),
            _ => Some(LevelFilter::Trace),
        }
    }
}

/// Rewrites `-conf` and `-check`, which the parser would read as a row of short flags, to two dashes.
fn with_two_dashes(arg: OsString) -> OsString {
    let bytes = arg.as_encoded_bytes();
    let long = bytes == b"-conf" || bytes == b"-check" || bytes.starts_with(b"-conf=");
    if !long {
        return arg;
    }
    let mut rewritten = OsString::from("-");
    rewritten.push(arg);
    rewritten
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Args, Usage> {
        Args::read(["hrotti"].iter().chain(args).map(OsString::from))
    }

    #[test]
    fn the_file_may_follow_in_four_ways() {
        for args in
            [&["-conf", "a.json"][..], &["-conf=a.json"], &["--conf", "a.json"], &["--conf=a.json"]]
        {
            let args = read(args).expect("a good command line");
            assert_eq!(args.conf, Some(PathBuf::from("a.json")));
            assert!(!args.check);
        }
        assert!(read(&["-check"]).expect("a good command line").check);
        assert!(read(&["--check", "-conf", "a"]).expect("a good command line").check);
    }

    #[cfg(unix)]
    #[test]
    fn the_path_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStringExt;
        let arg = OsString::from_vec(b"-conf=\xff.json".to_vec());
        let args = Args::read([OsString::from("hrotti"), arg]).expect("a good command line");
        assert_eq!(args.conf, Some(PathBuf::from(OsString::from_vec(b"\xff.json".to_vec()))));
    }

    #[test]
    fn levels() {
        for (args, level) in [
            (&[][..], None),
            (&["-v"], Some(LevelFilter::Debug)),
            (&["-vv"], Some(LevelFilter::Trace)),
            (&["-v", "-v", "-v"], Some(LevelFilter::Trace)),
            (&["--log-level", "warn"], Some(LevelFilter::Warn)),
            (&["--log-level=OFF"], Some(LevelFilter::Off)),
        ] {
            assert_eq!(read(args).expect("a good command line").level(), level, "{args:?}");
        }
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for arg in ["-h", "--help", "-V", "--version"] {
            assert!(
                matches!(read(&[arg]), Err(Usage::Asked(text)) if text.contains("hrotti")),
                "{arg}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_names_it() {
        for (args, part) in [
            (&["--config", "a"][..], "--config"),
            (&["-x"], "-x"),
            (&["file"], "file"),
            (&["-conf"], "--conf"),
            (&["-conf", "a", "-conf", "b"], "--conf"),
            (&["--against", "a"], "--check"),
            (&["--log-level", "loud"], "loud"),
            (&["-v", "--log-level", "info"], "--log-level"),
        ] {
            let Err(Usage::Wrong(text)) = read(args) else { unreachable!("{args:?}") };
            assert!(text.contains(part) && text.contains("USAGE"), "{args:?}: {text}");
        }
    }
}
