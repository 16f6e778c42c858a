//! The manual page and the shell completions, made from the flags that the command line really has.

use roff::{Inline, Roff, bold, italic, roman};
use structopt::StructOpt;
use structopt::clap::{App, Shell};

use super::args::Args;
use super::passwd;

/// The whole command line, with that of `hrotti passwd`, which is read apart.
fn command_line() -> App<'static, 'static> {
    let mut app = Args::clap();
    for command in &mut app.p.subcommands {
        if command.p.meta.name == "passwd" {
            *command = passwd::command_line().name("passwd");
        }
    }
    app
}

/// The completions of a shell, by one of the names of [`Shell::variants`].
pub(crate) fn completions(shell: &str) -> String {
    let mut out = Vec::new();
    if let Ok(shell) = shell.parse::<Shell>() {
        command_line().gen_completions_to("hrotti", shell, &mut out);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The manual page of section 1, in roff.
pub(crate) fn page() -> String {
    let app = command_line();
    let mut page = Roff::new();
    page.control(
        "TH",
        ["HROTTI", "1", "", concat!("hrotti ", env!("CARGO_PKG_VERSION")), "User Commands"],
    );
    page.control("SH", ["NAME"]);
    page.text([roman("hrotti - an MQTT server for versions 3.1, 3.1.1 and 5.0")]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([
        bold("hrotti"),
        roman(" ["),
        italic("OPTIONS"),
        roman("] ["),
        italic("COMMAND"),
        roman("]"),
    ]);
    page.control("SH", ["DESCRIPTION"]);
    paragraphs(&mut page, about(&app));
    page.control("SH", ["OPTIONS"]);
    options(&mut page, &app);
    page.control("SH", ["COMMANDS"]);
    commands(&mut page, "", &app);
    for (title, items) in REST {
        page.control("SH", [*title]);
        for (term, text) in *items {
            page.control("TP", []);
            page.text([bold(*term)]);
            page.text([roman(*text)]);
        }
    }
    page.render()
}

/// What no flag says.
const REST: &[(&str, &[(&str, &str)])] = &[
    (
        "ENVIRONMENT",
        &[
            ("HROTTI_URL", "The URL of the only listener, used without -conf."),
            ("HROTTI_ADMIN", "The admin listener that hrotti ctl asks, used without --url."),
            (
                "HROTTI_ADMIN_TOKEN_FILE",
                "The file with the token of that listener, used without --token-file.",
            ),
            ("NOTIFY_SOCKET, WATCHDOG_USEC", "Set by systemd: readiness, status and the watchdog."),
            (
                "LISTEN_FDS, LISTEN_FDNAMES",
                "Set by systemd: sockets for the listeners of these names.",
            ),
        ],
    ),
    (
        "SIGNALS",
        &[
            ("SIGTERM, SIGINT", "Stop in good order; a second one ends the program at once."),
            ("SIGHUP", "Read the configuration and all its files again."),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            ("0", "It stopped in good order, or a check found no error."),
            (
                "1",
                "The configuration, a file or a listener cannot be used; the standard error says why.",
            ),
            ("2", "The command line is not valid."),
        ],
    ),
    (
        "FILES",
        &[("/etc/hrotti/config.json", "The configuration of the service of the Debian package.")],
    ),
];

fn about<'a>(app: &'a App<'_, '_>) -> &'a str {
    let meta = &app.p.meta;
    meta.long_about.or(meta.about).unwrap_or_default()
}

fn paragraphs(page: &mut Roff, text: &str) {
    for paragraph in text.split("\n\n") {
        page.control("PP", []);
        page.text([roman(paragraph.replace('\n', " "))]);
    }
}

/// The commands of a command line, each followed by its own. `before` is what stands before their names.
fn commands(page: &mut Roff, before: &str, app: &App<'_, '_>) {
    for command in &app.p.subcommands {
        page.control("SS", [format!("{before}{}", synopsis(command)).as_str()]);
        paragraphs(page, about(command));
        options(page, command);
        commands(page, &format!("{before}{} ", command.p.meta.name), command);
    }
}

/// `explain [OPTIONS] ACTION [TOPIC]`
fn synopsis(app: &App<'_, '_>) -> String {
    let mut line = app.p.meta.name.clone();
    if !app.p.flags.is_empty() || !app.p.opts.is_empty() {
        line.push_str(" [OPTIONS]");
    }
    let names = app.p.positionals.values().map(|positional| {
        let value = positional.v.val_names.as_ref().and_then(|names| names.values().next());
        value.copied().unwrap_or(positional.b.name)
    });
    names.fold(line, |line, name| line + " " + name)
}

/// One entry for each flag, option and operand, in the order of the code.
fn options(page: &mut Roff, app: &App<'_, '_>) {
    let operands = app.p.positionals.values().map(|operand| {
        let value = operand.v.val_names.as_ref().and_then(|names| names.values().next());
        (vec![italic(value.copied().unwrap_or(operand.b.name))], operand.b.help)
    });
    let flags =
        app.p.flags.iter().map(|flag| (names(flag.s.short, flag.s.long, None), flag.b.help));
    let valued = app.p.opts.iter().map(|option| {
        let value = option.v.val_names.as_ref().and_then(|names| names.values().next());
        (
            names(option.s.short, option.s.long, Some(value.copied().unwrap_or("VALUE"))),
            option.b.help,
        )
    });
    for (term, help) in operands.chain(flags).chain(valued) {
        page.control("TP", []);
        page.text(term);
        page.text([roman(help.unwrap_or_default().replace('\n', " "))]);
    }
}

/// `-v, --verbose VALUE`
fn names(short: Option<char>, long: Option<&str>, value: Option<&str>) -> Vec<Inline> {
    let short = short.map(|short| format!("-{short}"));
    let long = long.map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let mut term = vec![bold(names.join(", "))];
    if let Some(value) = value {
        term.extend([roman(" "), italic(value)]);
    }
    term
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All long and short names of the command line, which is what a user may type.
    fn all_flags(app: &App<'_, '_>) -> Vec<String> {
        let flags = app.p.flags.iter().map(|flag| (flag.s.short, flag.s.long));
        let options = app.p.opts.iter().map(|option| (option.s.short, option.s.long));
        let names = flags.chain(options).flat_map(|(short, long)| {
            let short = short.map(|short| format!("-{short}"));
            short.into_iter().chain(long.map(|long| format!("--{long}")))
        });
        names.chain(app.p.subcommands.iter().flat_map(all_flags)).collect()
    }

    #[test]
    fn the_page_has_every_flag_and_command() {
        let app = command_line();
        let page = page().replace("\\-", "-");
        for flag in all_flags(&app) {
            assert!(page.contains(&flag), "{flag}: {page}");
        }
        for command in &app.p.subcommands {
            let heading = page
                .lines()
                .find(|line| line.starts_with(".SS") && line.contains(&synopsis(command)));
            assert!(heading.is_some(), "{}: {page}", command.p.meta.name);
        }
        assert!(page.contains("ctl clients"), "{page}");
        assert!(all_flags(&app).contains(&"--conf".to_owned()));
        assert!(page.contains("-H") && page.contains("sha512-pbkdf2"), "passwd: {page}");
    }

    #[test]
    fn every_shell_gets_every_long_flag() {
        for shell in Shell::variants() {
            let text = completions(shell);
            for flag in all_flags(&command_line()) {
                let Some(long) = flag.strip_prefix("--") else { continue };
                assert!(text.contains(long), "{shell}: {flag}");
            }
        }
    }
}
