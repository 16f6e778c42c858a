//! `hrotti passwd`: makes and changes password files, with the flags of mosquitto_passwd.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hrotti::access::{HashMethod, PasswordHash, Secret};
use structopt::StructOpt;
use structopt::clap::{App, AppSettings, ErrorKind};

mod edit;
mod prompt;
mod replace;

/// Make or change a password file.
///
/// Without a flag, USER gets a new line or a new password, which is asked for, or read as one line from a pipe. Other
/// lines stay as they are. mosquitto reads the same files, and this reads those of mosquitto_passwd.
#[derive(Debug, StructOpt)]
#[structopt(name = "hrotti passwd", setting = AppSettings::DisableVersion)]
struct Options {
    /// Create the file, or empty it if it is there; FILE may be - for the standard output
    #[structopt(short = "c")]
    create: bool,

    /// Take the password from the command line, where other users of the machine can see it
    #[structopt(short = "b")]
    batch: bool,

    /// Delete USER
    #[structopt(short = "D")]
    delete: bool,

    /// Hash all passwords that are in plain text
    #[structopt(short = "U")]
    upgrade: bool,

    /// The hash: sha512-pbkdf2, argon2id (mosquitto 2.1 and later), or sha512 (quickly guessed)
    #[structopt(
        short = "H",
        value_name = "HASH",
        default_value = "sha512-pbkdf2",
        possible_values = &["sha512-pbkdf2", "argon2id", "sha512"],
        hide_possible_values = true
    )]
    hash: String,

    /// The iterations of sha512-pbkdf2, from 1 to 10000000 [default: 210000]
    #[structopt(short = "I", value_name = "ITERATIONS")]
    iterations: Option<u32>,

    /// The password file
    #[structopt(value_name = "FILE", parse(from_os_str))]
    file: PathBuf,

    /// The user name
    #[structopt(value_name = "USER")]
    user: Option<String>,

    /// The password, with -b
    #[structopt(value_name = "PASSWORD", parse(from_os_str))]
    password: Option<OsString>,
}

/// The command line, for the manual page and completions.
pub(crate) fn command_line() -> App<'static, 'static> {
    Options::clap()
}

/// Runs the command with the arguments behind `passwd`. Exit codes: 0 if the file is as it was asked for; 1 for an
/// error, and the file is as it was before; 2 for a command line that is not valid; 130 after an interrupt from the
/// keyboard.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let argv = std::iter::once(OsString::from("hrotti passwd")).chain(args);
    let options = match Options::from_iter_safe(argv) {
        Ok(options) => options,
        Err(error) if error.kind == ErrorKind::HelpDisplayed => {
            return say(&error.message, ExitCode::SUCCESS);
        }
        Err(error) => return complain(&error.message, 2),
    };
    let (task, method) = match task(&options).and_then(|task| Ok((task, method(&options)?))) {
        Ok(both) => both,
        Err(problem) => {
            return complain(&format!("error: {problem}; see hrotti passwd --help"), 2);
        }
    };
    match carry_out(&options.file, task, method) {
        Ok(done) => say(&done, ExitCode::SUCCESS),
        Err(Failure::Interrupted) => complain("interrupted; nothing was changed", 130),
        Err(Failure::Error(problem)) => complain(&problem, 1),
    }
}

/// Why nothing was changed.
#[derive(Debug)]
enum Failure {
    Error(String),
    Interrupted,
}

impl From<String> for Failure {
    fn from(problem: String) -> Failure {
        Failure::Error(problem)
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
enum Task<'a> {
    /// Give a user a password, or ask for it.
    Set {
        user: &'a str,
        password: Option<&'a OsStr>,
        create: bool,
    },
    Delete {
        user: &'a str,
    },
    Upgrade,
}

fn task(options: &Options) -> Result<Task<'_>, String> {
    let Options { create, batch, delete, upgrade, .. } = *options;
    let (user, password) = (options.user.as_deref(), options.password.as_deref());
    let flags = [(create, "-c"), (delete, "-D"), (upgrade, "-U"), (batch, "-b")];
    for (at, (one, flag)) in flags.iter().enumerate() {
        let other = flags[..at].iter().find(|(other, _)| *one && *other);
        if let Some((_, other)) = other
            && (*other, *flag) != ("-c", "-b")
        {
            return Err(format!("{other} and {flag} cannot be used together"));
        }
    }
    match (user, password) {
        (None, _) if upgrade => Ok(Task::Upgrade),
        (None, _) => Err("USER is missing".to_owned()),
        (Some(_), _) if upgrade => Err("-U takes a FILE and no USER".to_owned()),
        (Some(_), Some(_)) if !batch => {
            Err("a PASSWORD on the command line needs -b; without it, it is asked for".to_owned())
        }
        (Some(_), None) if batch => Err("-b needs a PASSWORD".to_owned()),
        (Some(user), None) if delete => Ok(Task::Delete { user }),
        (Some(user), password) => Ok(Task::Set { user, password, create }),
    }
}

fn method(options: &Options) -> Result<HashMethod, String> {
    let method = match (options.hash.as_str(), options.iterations) {
        ("sha512-pbkdf2", None) => HashMethod::default(),
        ("sha512-pbkdf2", Some(iterations @ 1..=10_000_000)) => HashMethod::Pbkdf2 { iterations },
        ("sha512-pbkdf2", Some(iterations)) => {
            return Err(format!("-I {iterations}: iterations are from 1 to 10000000"));
        }
        (hash, Some(_)) => return Err(format!("-I has no meaning with -H {hash}; leave it out")),
        ("argon2id", None) => HashMethod::ARGON2ID,
        (_, None) => HashMethod::Sha512,
    };
    Ok(method)
}

/// Changes the file; the line to print.
fn carry_out(file: &Path, task: Task<'_>, method: HashMethod) -> Result<String, Failure> {
    let name = file.display();
    let (user, password, create) = match task {
        Task::Upgrade => return upgrade(file, method),
        Task::Delete { user } => {
            let changed = edit::delete(&read(file)?, user);
            if changed.lines == 0 {
                return Err(
                    format!("{name}: there is no user {user:?}; nothing was deleted").into()
                );
            }
            replace::replace(file, &changed.text)?;
            return Ok(format!("{name}: deleted {user:?}"));
        }
        Task::Set { user, password, create } => (user, password, create),
    };
    check_user(user)?;
    // Before the password is asked for: the file may be unusable.
    let text = if create { String::new() } else { read(file)? };
    let password = match password {
        Some(password) => Secret::new(password.as_encoded_bytes()),
        None => prompt::password()?,
    };
    check_password(&password)?;
    let changed = edit::set(&text, user, &hash(password.bytes(), method)?);
    if create && file == Path::new("-") {
        return Ok(changed.text);
    }
    replace::replace(file, &changed.text)?;
    let what = if changed.lines == 0 { "added" } else { "changed" };
    Ok(format!("{name}: {what} {user:?}"))
}

fn upgrade(file: &Path, method: HashMethod) -> Result<String, Failure> {
    let name = file.display();
    let is_hash =
        |text: &str| !matches!(PasswordHash::parse(text), Err(error) if error.is_plain_text());
    let hash = |password: &str| hash(password.as_bytes(), method);
    let changed = edit::upgrade(&read(file)?, is_hash, hash).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(|error| format!("{name}:{error}")).collect();
        Failure::Error(lines.join("\n"))
    })?;
    if changed.lines == 0 {
        return Ok(format!("{name}: no password is in plain text"));
    }
    replace::replace(file, &changed.text)?;
    Ok(format!("{name}: hashed {} passwords", changed.lines))
}

fn hash(password: &[u8], method: HashMethod) -> Result<String, String> {
    let hash = PasswordHash::new(password, method);
    hash.map(|hash| hash.encoded()).map_err(|error| format!("hashing failed: {error}"))
}

fn read(file: &Path) -> Result<String, String> {
    let name = file.display();
    let bytes = fs::read(file).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "create it with -c",
            _ => "check the path and its permissions",
        };
        format!("{name}: it cannot be read: {error}; {remedy}")
    })?;
    String::from_utf8(bytes).map_err(|_| format!("{name}: it is no UTF-8; save it as UTF-8"))
}

/// What a line of the file can hold.
fn check_user(user: &str) -> Result<(), String> {
    let problem = if user.is_empty() {
        "it is empty"
    } else if user.len() > 65_535 {
        "it has more than 65535 bytes"
    } else if user.contains(':') {
        "it holds a colon"
    } else if user.chars().any(char::is_control) {
        "it holds a control character"
    } else if user.starts_with('#') {
        "it begins with #, as comments do"
    } else if user.starts_with(' ') || user.ends_with(' ') {
        "it begins or ends with a space"
    } else {
        return Ok(());
    };
    Err(format!("the user name {user:?} cannot be written: {problem}; choose another one"))
}

fn check_password(password: &Secret) -> Result<(), String> {
    match password.bytes().len() {
        0 => Err("the password is empty; choose another one".to_owned()),
        1..=65_535 => Ok(()),
        _ => Err("the password has more than 65535 bytes; choose another one".to_owned()),
    }
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
