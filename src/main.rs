//! The program: turns command line and environment into a configuration, runs a broker on its listeners, and stops
//! it in good order on a signal. [`args::Args`] has the options.
//!
//! Exit codes: 0 after a stop in good order or a `-check` without errors; 1 if the configuration, a file that it names or
//! a listener cannot be used, or the system refuses resources that the start needs; 2 for a command line that is not
//! valid; 128 plus the signal's number if a second signal ended the stop. `explain` has codes of its own:
//! [`program::explain`].

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use hrotti::AdminConfig;
use hrotti::config::Config;
use hrotti::server::{Loaded, ServerErrors};

use self::program::args::{Args, Command, Usage};
use self::program::{against, ctl, explain, manual, passwd, serve};

mod program {
    pub(crate) mod activation;
    pub(crate) mod against;
    pub(crate) mod args;
    pub(crate) mod ctl;
    pub(crate) mod descriptors;
    pub(crate) mod explain;
    pub(crate) mod handover;
    pub(crate) mod lines;
    pub(crate) mod logging;
    pub(crate) mod manual;
    pub(crate) mod passwd;
    pub(crate) mod serve;
    pub(crate) mod stdout;
    pub(crate) mod systemd;
}

/// The environment variable with the URL of the only listener; used without `-conf`.
const VARIABLE: &str = "HROTTI_URL";

fn main() -> ExitCode {
    if env::args_os().nth(1).is_some_and(|command| command == "passwd") {
        return passwd::run(env::args_os().skip(2));
    }
    let args = match Args::read(env::args_os()) {
        Ok(args) => args,
        Err(Usage::Asked(text)) => return say(&text, ExitCode::SUCCESS),
        Err(Usage::Wrong(text)) => return complain(&text, 2),
    };
    match &args.command {
        Some(Command::Ctl(command)) => return ctl::run(command),
        Some(Command::Manual) => return say(&manual::page(), ExitCode::SUCCESS),
        Some(Command::Completions { shell }) => {
            return say(&manual::completions(shell), ExitCode::SUCCESS);
        }
        Some(Command::Explain(_) | Command::Passwd) | None => {}
    }
    let url = env::var_os(VARIABLE).filter(|url| !url.is_empty());
    let ignored = args.conf.is_some() && url.is_some();
    let base = args.conf.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    let (conf, admin, level) = (args.conf.clone(), args.admin.clone(), args.level());
    let source = move || configuration(conf.as_deref(), url.as_deref(), admin.as_deref());
    let read = source().and_then(|config| {
        let loaded = Loaded::read(&config, &base).map_err(|errors| errors.to_string())?;
        Ok((config, loaded))
    });
    let asked = args.command.as_ref();
    let (config, loaded) = match read {
        Ok(read) => read,
        // Without an answer there is no yes and no no.
        Err(errors) => {
            return complain(&errors, if asked.is_some() { explain::NO_ANSWER } else { 1 });
        }
    };
    if ignored {
        // Printed to the standard error, whatever the configuration of the log.
        complain(&format!("warning: {VARIABLE} is ignored, because -conf is given"), 0);
    }
    if let Some(Command::Explain(question)) = asked {
        return match explain::answer(&config, &loaded, question) {
            Ok(answer) => say(&answer.text, ExitCode::from(answer.code)),
            Err(problem) => complain(&problem, explain::NO_ANSWER),
        };
    }
    if let Some(old) = args.against.as_deref() {
        return match against::lines_of(old, &config) {
            Ok(lines) => say(&lines, ExitCode::SUCCESS),
            Err(problem) => complain(&problem, 1),
        };
    }
    if args.check {
        return say(&format!("{config}{loaded}"), ExitCode::SUCCESS);
    }
    let source = Box::new(move || source().map_err(|errors| ServerErrors::new(&errors)));
    let order = serve::Order { config, loaded, source, level };
    match serve::until_stopped(order, &base) {
        Ok(()) => ExitCode::SUCCESS,
        Err(errors) => complain(&errors.join("\n"), 1),
    }
}

/// What to run: the file, else the variable, else the default; and an admin listener, if the command line has one.
fn configuration(
    file: Option<&Path>,
    url: Option<&OsStr>,
    admin: Option<&str>,
) -> Result<Config, String> {
    let mut config = configured(file, url)?;
    if let Some(url) = admin {
        let admin = AdminConfig::new(url).and_then(|admin| admin.validate().map(|()| admin));
        config.admin = Some(admin.map_err(|error| format!("--admin: {error}"))?);
    }
    Ok(config)
}

fn configured(file: Option<&Path>, url: Option<&OsStr>) -> Result<Config, String> {
    let (config, source) = match (file, url) {
        (Some(path), _) => {
            let name = path.display().to_string();
            let text = fs::read(path).map_err(|error| {
                format!("{name}: cannot be read: {error}; check the path that follows -conf")
            })?;
            let text = String::from_utf8(text).map_err(|error| {
                let valid = error.utf8_error().valid_up_to();
                format!("{name}: not JSON: byte {valid} is no UTF-8; save the file as UTF-8")
            })?;
            (Config::from_json(&text, &name), name)
        }
        (None, Some(url)) => {
            let url = url.to_str().ok_or_else(|| {
                format!("{VARIABLE}: {url:?} is no UTF-8; write a URL such as tcp://0.0.0.0:1883")
            })?;
            (Config::from_url(url, VARIABLE), VARIABLE.to_owned())
        }
        (None, None) => (Ok(Config::default()), "the default".to_owned()),
    };
    let checked = config.and_then(|config| config.check_hosts(&source).map(|()| config));
    checked.map_err(|errors| errors.to_string())
}

/// Prints to the standard output. A closed standard output is no error.
fn say(text: &str, code: ExitCode) -> ExitCode {
    let _ = writeln!(io::stdout().lock(), "{}", text.trim_end());
    code
}

/// Prints to the standard error. A closed standard error is no error.
fn complain(text: &str, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
    ExitCode::from(code)
}
