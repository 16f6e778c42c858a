//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hrotti_conformance::report::{self, Report};
use hrotti_conformance::{Case, Versions};
use structopt::StructOpt;
use structopt::clap::{AppSettings, ErrorKind};
use url::Url;

#[cfg(test)]
mod tests;

/// Checks a running MQTT broker against the statements of MQTT 3.1, 3.1.1 and 5.0.
///
/// Every case runs over each URL, several at a time. Progress goes to the standard error, failures and the
/// summary to the standard output. The exit code is 0 if no case failed, 1 if a case failed, 2 if the run was not
/// possible.
///
/// The broker must accept clients without user name and password. Cases use topics and Client Identifiers of
/// their own, which begin with `c` and a number; some subscribe to `#`.
#[derive(Debug, StructOpt)]
#[structopt(
    name = "hrotti-conformance",
    global_setting = AppSettings::ColorNever,
    after_help = "EXAMPLES:\n    \
        hrotti-conformance --url tcp://127.0.0.1:1883\n    \
        hrotti-conformance --url tcp://broker:1883 --ws-url ws://broker:8080/mqtt --report report.html\n    \
        hrotti-conformance --url tcp://broker:1883 --versions 3.1.1 --filter will::\n    \
        hrotti-conformance --list --filter MQTT-3.1.2-24"
)]
pub(crate) struct Args {
    /// The broker's URL: tcp://HOST:PORT, mqtts://HOST:PORT, ws://HOST:PORT/PATH or wss://HOST:PORT/PATH. May be given
    /// several times.
    #[structopt(long, value_name = "URL", number_of_values = 1, parse(try_from_str = any_url))]
    pub(crate) url: Vec<String>,

    /// The broker's WebSocket URL: ws://HOST:PORT/PATH or wss://HOST:PORT/PATH. May be given several times.
    #[structopt(long, value_name = "URL", number_of_values = 1, parse(try_from_str = ws_url))]
    pub(crate) ws_url: Vec<String>,

    /// The broker's URL for version 5, if that has a separate port. Only with a single --url.
    #[structopt(long, value_name = "URL", parse(try_from_str = any_url))]
    pub(crate) v5_url: Option<String>,

    /// A PEM file with the authorities of the broker's certificate. Needed for mqtts:// and wss://.
    #[structopt(long, value_name = "FILE", parse(from_os_str))]
    pub(crate) ca_file: Option<PathBuf>,

    /// Runs only cases whose name contains TEXT, whose `chapter::name` begins with TEXT (will::), or that check the
    /// statement TEXT (MQTT-3.1.2-24). May be given several times: any of them then.
    #[structopt(long, value_name = "TEXT", number_of_values = 1)]
    pub(crate) filter: Vec<String>,

    /// The versions to test, with commas between: 3.1,3.1.1,5. Cases, or parts of them, that need another
    /// are left out. All that the capability file has, unless given.
    #[structopt(long, value_name = "LIST")]
    pub(crate) versions: Option<Versions>,

    /// A JSON file with the broker's capabilities; the suite's README has its keys.
    #[structopt(long, value_name = "FILE", parse(from_os_str))]
    pub(crate) capabilities: Option<PathBuf>,

    /// Writes a report: FILE.json, FILE.xml (JUnit) or FILE.html. May be given several times.
    #[structopt(long, value_name = "FILE", number_of_values = 1)]
    pub(crate) report: Vec<Path>,

    /// The broker's name in the reports. Default: its URLs.
    #[structopt(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,

    /// Prints the cases with the statements that they check, and runs nothing.
    #[structopt(long)]
    pub(crate) list: bool,

    /// How many cases run at a time: 1 to 255.
    #[structopt(long, value_name = "N", default_value = "16", parse(try_from_str = positive))]
    pub(crate) jobs: u8,

    /// Seconds to wait for each answer: 1 to 255. A case may take twenty times as long.
    #[structopt(long, value_name = "SECS", default_value = "8", parse(try_from_str = positive))]
    pub(crate) timeout: u8,

    /// Shows no progress.
    #[structopt(long)]
    pub(crate) quiet: bool,

    /// Prints, as Markdown, the table that compares these JSON reports, and runs nothing.
    #[structopt(long, value_name = "REPORT", parse(from_os_str), conflicts_with_all = &["url", "ws-url", "list"])]
    pub(crate) matrix: Vec<PathBuf>,
}

/// Why there are no arguments.
#[derive(Debug)]
pub(crate) enum Usage {
    /// Help or version was asked for: this.
    Asked(String),
    /// They cannot be used: this is why.
    Wrong(String),
}

/// A report's file; its ending says its form.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub(crate) file: PathBuf,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Json,
    Junit,
    Html,
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Path, String> {
        let file = PathBuf::from(text);
        let form = match file.extension().and_then(|e| e.to_str()) {
            Some("json") => Form::Json,
            Some("xml") => Form::Junit,
            Some("html") => Form::Html,
            _ => return Err("a report ends in .json, .xml or .html".into()),
        };
        Ok(Path { file, form })
    }
}

impl Path {
    /// The report in the form of this file.
    pub(crate) fn write(&self, report: &Report) -> Result<String, String> {
        Ok(match self.form {
            Form::Json => report.to_json().map_err(|e| e.to_string())?,
            Form::Junit => report::junit(report),
            Form::Html => report::html(report),
        })
    }
}

fn any_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|e| format!("{e}; write tcp://HOST:PORT"))?;
    match url.scheme() {
        "tcp" | "mqtts" | "tls" | "ws" | "wss" if url.has_host() => Ok(text.to_owned()),
        "tcp" | "mqtts" | "tls" | "ws" | "wss" => Err("a host is missing".into()),
        other => Err(format!("the scheme is {other}; tcp, mqtts, ws and wss can be tested")),
    }
}

fn ws_url(text: &str) -> Result<String, String> {
    any_url(text).and_then(|url| {
        if url.starts_with("ws:") || url.starts_with("wss:") {
            Ok(url)
        } else {
            Err("a ws:// or wss:// URL is needed here".into())
        }
    })
}

/// Whether TLS is spoken at this URL.
pub(crate) fn is_tls(url: &str) -> bool {
    ["mqtts:", "tls:", "wss:"].iter().any(|scheme| url.starts_with(scheme))
}

fn positive(text: &str) -> Result<u8, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "a number from 1 to 255 is needed".into())
}

impl Args {
    /// Reads the command line; the first of `args` is the program.
    pub(crate) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Args, Usage> {
        // The version has been printed by then, without the end of its line.
        let args = Args::from_iter_safe(args).map_err(|error| match error.kind {
            ErrorKind::HelpDisplayed | ErrorKind::VersionDisplayed => Usage::Asked(error.message),
            _ => Usage::Wrong(error.message),
        })?;
        if args.urls().is_empty() && !args.list && args.matrix.is_empty() {
            return Err(Usage::Wrong("--url or --ws-url is needed; --help says more".into()));
        }
        let every = args.urls().into_iter().chain(args.v5_url.clone());
        if args.ca_file.is_none()
            && let Some(url) = every.into_iter().find(|url| is_tls(url))
        {
            return Err(Usage::Wrong(format!("{url} needs --ca-file; --help says more")));
        }
        if args.v5_url.is_some() && args.urls().len() != 1 {
            return Err(Usage::Wrong("--v5-url goes with exactly one --url".into()));
        }
        Ok(args)
    }

    /// Every URL, in the order of the options.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.url.iter().chain(&self.ws_url).cloned().collect()
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }

    /// Whether a filter, if there is one, chooses this case.
    pub(crate) fn chooses(&self, case: &Case) -> bool {
        let name = format!("{}::{}", case.chapter, case.name);
        let checks = |id: &str| {
            case.v311.split_whitespace().chain(case.v5.split_whitespace()).any(|known| known == id)
        };
        let chosen = |filter: &String| match filter.strip_prefix("MQTT-") {
            Some(id) => checks(id),
            // `ws::` is a chapter, and no part of `flows::`.
            None if filter.contains("::") => name.starts_with(filter.as_str()),
            None => name.contains(filter.as_str()),
        };
        self.filter.is_empty() || self.filter.iter().any(chosen)
    }

    /// The command that runs this case alone.
    pub(crate) fn alone(&self, case: &Case, url: &str) -> String {
        let mut command = format!("hrotti-conformance --url {url}");
        if let Some(v5) = &self.v5_url {
            command += &format!(" --v5-url {v5}");
        }
        if let Some(path) = &self.ca_file {
            command += &format!(" --ca-file {}", path.display());
        }
        if let Some(path) = &self.capabilities {
            command += &format!(" --capabilities {}", path.display());
        }
        if let Some(versions) = self.versions {
            command += &format!(" --versions {versions}");
        }
        command + &format!(" --filter {}::{}", case.chapter, case.name)
    }
}
