//! `hrotti passwd` as its users meet it, and its files in the hands of mosquitto.

#![cfg(unix)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use hrotti::access::{Credentials, HashMethod, PasswordFile, PasswordHash};

/// A directory that is removed at the end of the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path =
            std::env::temp_dir().join(format!("hrotti-passwd-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a temporary directory");
        Directory(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn passwd(args: &[&str], typed: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hrotti"));
    command.arg("passwd").args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let _ = child.stdin.take().expect("its standard input").write_all(typed.as_bytes());
    child.wait_with_output().expect("it ends")
}

/// What a run printed, if it ended with this code.
fn printed(args: &[&str], typed: &str, code: i32) -> String {
    let output = passwd(args, typed);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    text
}

fn hash_of(file: &str, user: &str) -> PasswordHash {
    let text = fs::read_to_string(file).expect("the file");
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, hash) = lines.find(|(name, _)| *name == user).expect("the user");
    PasswordHash::parse(hash).expect("a hash")
}

#[test]
fn a_file_is_made_changed_and_read() {
    let directory = Directory::new("made");
    let file = directory.path("passwords");
    let made = printed(&["-c", "-b", "-I", "100", &file, "ann", "open sesame"], "", 0);
    assert_eq!(made, format!("{file}: added \"ann\"\n"));
    assert_eq!(fs::metadata(&file).expect("the file").mode() & 0o777, 0o600);
    // From a pipe: one line, without its end.
    let piped = printed(&["-I", "100", &file, "bob"], " spaces stay \r\nmore\n", 0);
    assert_eq!(piped, format!("{file}: added \"bob\"\n"));
    assert!(hash_of(&file, "ann").verify(b"open sesame"));
    assert!(hash_of(&file, "bob").verify(b" spaces stay "));

    let text = fs::read_to_string(&file).expect("the file");
    fs::write(&file, format!("# kept\n{text}")).expect("the file");
    let changed = printed(&["-b", "-H", "sha512", &file, "ann", "new"], "", 0);
    assert_eq!(changed, format!("{file}: changed \"ann\"\n"));
    assert!(hash_of(&file, "ann").verify(b"new"));
    assert_eq!(hash_of(&file, "ann").method(), HashMethod::Sha512);
    let text = fs::read_to_string(&file).expect("the file");
    assert!(text.starts_with("# kept\nann:$6$") && text.contains("\nbob:$7$100$"), "{text}");

    let deleted = printed(&["-D", &file, "ann"], "", 0);
    assert_eq!(deleted, format!("{file}: deleted \"ann\"\n"));
    let missing = printed(&["-D", &file, "ann"], "", 1);
    assert_eq!(missing, format!("{file}: there is no user \"ann\"; nothing was deleted\n"));
    let read = PasswordFile::parse(&fs::read_to_string(&file).expect("the file"), &file);
    assert_eq!(read.expect("a good file").len(), 1);
}

#[test]
fn the_default_hashes_are_slow_and_readable_by_mosquitto() {
    let directory = Directory::new("default");
    let file = directory.path("passwords");
    printed(&["-c", "-b", &file, "ann", "x"], "", 0);
    assert_eq!(hash_of(&file, "ann").method(), HashMethod::default());
    printed(&["-b", "-H", "argon2id", &file, "ann", "x"], "", 0);
    assert_eq!(hash_of(&file, "ann").method(), HashMethod::ARGON2ID);
}

#[test]
fn plain_text_is_hashed_once_and_nothing_else_is_touched() {
    let directory = Directory::new("plain");
    let file = directory.path("passwords");
    let kept = PasswordHash::new(b"kept", HashMethod::Sha512).expect("a hash").encoded();
    fs::write(&file, format!("# users\nann:open sesame\nbob:{kept}\neve:x:y")).expect("the file");
    let done = printed(&["-U", "-I", "100", &file], "", 0);
    assert_eq!(done, format!("{file}: hashed 2 passwords\n"));
    assert!(hash_of(&file, "ann").verify(b"open sesame") && hash_of(&file, "eve").verify(b"x:y"));
    let text = fs::read_to_string(&file).expect("the file");
    assert!(text.starts_with("# users\nann:$7$100$"), "{text}");
    assert!(text.contains(&format!("\nbob:{kept}\neve:$7$100$")), "{text}");
    let again = printed(&["-U", &file], "", 0);
    assert_eq!(again, format!("{file}: no password is in plain text\n"));
    assert_eq!(fs::read_to_string(&file).expect("the file"), text);
}

/// Pitfall 10.
#[test]
fn an_error_leaves_the_file_as_it_was_pitfall_10() {
    let directory = Directory::new("errors");
    let file = directory.path("passwords");
    let missing = printed(&["-b", &file, "ann", "x"], "", 1);
    assert!(missing.contains("; create it with -c\n"), "{missing}");
    let before = "ann:open sesame\nno colon\n";
    fs::write(&file, before).expect("the file");
    let directory_itself = directory.0.to_str().expect("UTF-8");
    for (args, typed, problem) in [
        (&["-U", &file][..], "", ":2: it is no NAME:PASSWORD; correct the line"),
        (&[&file, "bob"], "", "the password is empty; choose another one"),
        (&[&file, "bob"], "\n", "the password is empty; choose another one"),
        (&["-b", &file, "bob", ""], "", "the password is empty; choose another one"),
        (&["-b", &file, "", "x"], "", "it is empty; choose another one"),
        (&["-b", &file, "a:b", "x"], "", "it holds a colon; choose another one"),
        (&["-b", &file, "a\nb", "x"], "", "\"a\\nb\" cannot be written: it holds a control"),
        (&["-b", &file, "#a", "x"], "", "it begins with #, as comments do"),
        (&["-b", &file, " a", "x"], "", "it begins or ends with a space"),
        (
            &["-c", "-b", directory_itself, "a", "x"],
            "",
            "it cannot be written: it is no regular file",
        ),
        (&["-c", "-b", "/no/such/place", "a", "x"], "", "it cannot be written: No such file"),
    ] {
        let text = printed(args, typed, 1);
        assert!(text.contains(problem) && text.lines().count() == 1, "{args:?}: {text}");
        assert!(!text.contains("sesame"), "{text}");
        assert_eq!(fs::read_to_string(&file).expect("the file"), before);
    }
    assert_eq!(fs::read_dir(&directory.0).expect("the directory").count(), 1, "nothing is left");
}

#[test]
fn a_command_line_that_is_not_valid_is_an_error_that_names_the_flag() {
    for (args, part) in [
        (&[][..], "FILE"),
        (&["f"], "USER is missing"),
        (&["-c", "-D", "f", "u"], "-c and -D cannot be used together"),
        (&["-c", "-U", "f"], "-c and -U cannot be used together"),
        (&["-D", "-U", "f"], "-D and -U cannot be used together"),
        (&["-b", "f", "u"], "-b needs a PASSWORD"),
        (&["f", "u", "p"], "a PASSWORD on the command line needs -b"),
        (&["-b", "-D", "f", "u", "p"], "-D and -b cannot be used together"),
        (&["-U", "f", "u"], "-U takes a FILE and no USER"),
        (&["f", "u", "-X"], "-X"),
        (&["-H", "md5", "f", "u"], "md5"),
        (&["-I", "0", "f", "u"], "-I 0: iterations are from 1 to 10000000"),
        (&["-I", "x", "f", "u"], "-I"),
        (&["-H", "argon2id", "-I", "3", "f", "u"], "-I has no meaning with -H argon2id"),
    ] {
        let text = printed(args, "", 2);
        assert!(text.contains(part), "{args:?}: {text}");
    }
    let help = printed(&["--help"], "", 0);
    for flag in ["-c", "-b", "-D", "-U", "-H", "-I", "USER", "PASSWORD", "sha512-pbkdf2"] {
        assert!(help.contains(flag), "{flag}: {help}");
    }
}

#[test]
fn a_new_file_may_go_to_the_standard_output() {
    let text = printed(&["-c", "-b", "-I", "7", "-", "ann", "x"], "", 0);
    assert_eq!(PasswordFile::parse(&text, "-").expect("a good file").len(), 1);
    assert!(!Path::new("-").exists());
}

#[test]
fn a_file_keeps_its_group_rights_and_its_link_and_loses_those_of_all() {
    let directory = Directory::new("rights");
    let (file, link) = (directory.path("passwords"), directory.path("link"));
    fs::write(&file, "").expect("the file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o646)).expect("its mode");
    symlink(&file, &link).expect("a link");
    printed(&["-b", "-I", "7", &link, "ann", "x"], "", 0);
    assert_eq!(fs::metadata(&file).expect("the file").mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
    assert!(hash_of(&file, "ann").verify(b"x"));
}

/// Whether a tool of mosquitto is there; if not, the test says so.
fn there(tool: &str) -> bool {
    let found =
        Command::new(tool).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        eprintln!("!! NOT RUN: {tool} is not installed");
    }
    found.is_ok()
}

#[test]
fn files_of_mosquitto_passwd_are_read_and_changed() {
    if !there("mosquitto_passwd") {
        return;
    }
    let directory = Directory::new("theirs");
    let file = directory.path("passwords");
    let theirs = |args: &[&str]| {
        let output = Command::new("mosquitto_passwd").args(args).output().expect("it runs");
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    theirs(&["-c", "-b", &file, "ann", "open sesame"]);
    theirs(&["-b", "-H", "sha512", &file, "bob", "pässwörd"]);
    printed(&["-b", "-I", "100", &file, "eve", "x"], "", 0);
    theirs(&["-b", &file, "dave", "y"]);
    theirs(&["-D", &file, "bob"]);
    theirs(&["-b", "-H", "sha512", &file, "bob", "pässwörd"]);
    let text = fs::read_to_string(&file).expect("the file");
    let policy = std::sync::Arc::new(PasswordFile::parse(&text, &file).expect("a good file"));
    for (user, password) in
        [("ann", "open sesame"), ("bob", "pässwörd"), ("eve", "x"), ("dave", "y")]
    {
        let connect = |password: &str| {
            let peer = hrotti::transport::PeerInfo::from("test");
            let shown = Credentials::new("c", peer).with_password(user, password.as_bytes());
            let answer = hrotti::access::Policy::authenticate(policy.clone(), shown);
            futures_lite::future::block_on(answer)
        };
        assert!(matches!(connect(password), hrotti::access::Answer::Accept { .. }), "{user}");
        assert!(matches!(connect("guess"), hrotti::access::Answer::Refuse(_)), "{user}");
    }
}

/// A mosquitto that is ended with the test.
struct Mosquitto {
    child: Child,
    port: u16,
    /// Held open: it would end when it cannot write.
    _log: BufReader<ChildStderr>,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Mosquitto {
    /// Starts it with a password file. Another process may take the port first, so it is tried again.
    fn start(directory: &Directory, passwords: &str) -> Mosquitto {
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
            let port = port.expect("a free port").port();
            let config = directory.path("mosquitto.conf");
            let text = format!(
                "listener {port} 127.0.0.1\nlog_dest stderr\nallow_anonymous false\nuser root\npassword_file {passwords}\n"
            );
            fs::write(&config, text).expect("its configuration");
            let mut command = Command::new("mosquitto");
            command.args(["-c", &config]).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("mosquitto starts");
            let mut log = BufReader::new(child.stderr.take().expect("its log"));
            let mut line = String::new();
            while log.read_line(&mut line).is_ok_and(|read| read > 0) {
                if line.contains(" running") {
                    return Mosquitto { child, port, _log: log };
                }
                line.clear();
            }
            let _ = child.wait();
        }
        unreachable!("mosquitto does not start with this file")
    }

    fn lets_in(&self, user: &str, password: &str) -> bool {
        let port = self.port.to_string();
        let status = Command::new("mosquitto_pub")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-t",
                "t",
                "-m",
                "m",
                "-u",
                user,
                "-P",
                password,
            ])
            .stderr(Stdio::null())
            .status();
        status.expect("mosquitto_pub runs").success()
    }
}

#[test]
fn mosquitto_lets_in_the_users_of_our_files() {
    if !there("mosquitto") || !there("mosquitto_pub") {
        return;
    }
    let directory = Directory::new("ours");
    let file = directory.path("passwords");
    printed(&["-c", "-b", &file, "ann", "open sesame"], "", 0);
    printed(&["-b", "-H", "sha512", &file, "bob", "pässwörd"], "", 0);
    let text = fs::read_to_string(&file).expect("the file");
    fs::write(&file, format!("{text}eve:plain\n")).expect("the file");
    printed(&["-U", "-I", "1000", &file], "", 0);
    let mosquitto = Mosquitto::start(&directory, &file);
    for (user, password) in [("ann", "open sesame"), ("bob", "pässwörd"), ("eve", "plain")] {
        assert!(mosquitto.lets_in(user, password), "{user}");
        assert!(!mosquitto.lets_in(user, "guess"), "{user}");
    }
}
