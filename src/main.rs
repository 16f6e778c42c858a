//! The program: turns command line and environment into a configuration, runs a broker on its listeners, and stops
//! it in good order on a signal. [`args::Args`] has the options.
//!
//! Exit codes: 0 after a stop in good order or a `-check` without errors; 1 if the configuration, a file that it names or
//! a listener cannot be used, or the system refuses resources that the start needs; 2 for a command line that is not
//! valid; 128 plus the signal's number if a second signal ended the stop. `explain` has codes of its own:
//! [`program::explain`].

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use hrotti::config::Config;

use self::program::args::{Args, Command, Usage};
use self::program::{explain, loaded, passwd, serve};

mod program {
    pub(crate) mod args;
    pub(crate) mod descriptors;
    pub(crate) mod explain;
    pub(crate) mod handover;
    pub(crate) mod lines;
    pub(crate) mod loaded;
    pub(crate) mod logging;
    pub(crate) mod passwd;
    pub(crate) mod serve;
    pub(crate) mod stdout;
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
    let url = env::var_os(VARIABLE).filter(|url| !url.is_empty());
    let ignored = args.conf.is_some() && url.is_some();
    let read = configuration(args.conf.as_deref(), url).and_then(|config| {
        let base = args.conf.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let loaded = loaded::load(&config, base).map_err(|errors| errors.join("\n"))?;
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
    if args.check {
        return say(&format!("{config}{loaded}"), ExitCode::SUCCESS);
    }
    match serve::until_stopped(&config, &loaded, args.level()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(errors) => complain(&errors.join("\n"), 1),
    }
}

/// What to run: the file, else the variable, else the default.
fn configuration(file: Option<&Path>, url: Option<OsString>) -> Result<Config, String> {
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
            let url = url.into_string().map_err(|url| {
                format!("{VARIABLE}: {url:?} is no UTF-8; write a URL such as tcp://0.0.0.0:1883")
            })?;
            (Config::from_url(&url, VARIABLE), VARIABLE.to_owned())
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
