//! The log. femme prints the records as JSON if a single level describes the configuration. For text, or if some records
//! go to the standard error, or a level is discarded while a lower one is kept, a small logger of our own prints them.
//! Neither waits for the reader of a stream: see [`super::lines`] and [`super::stdout`].

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hrotti::config::{LogFormat, Logging, Stream};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::lines::Lines;

/// The target of the records about packets and ends of connections.
const PROTOCOL: &str = "hrotti::protocol";

/// The stream for each kind of record, and the level beyond which records are discarded.
#[derive(Debug, Clone, PartialEq)]
struct Routes {
    streams: Logging,
    level: LevelFilter,
}

impl Routes {
    /// A level on the command line overrides the file: records up to this level that the file discards go to the
    /// standard output, and records beyond it are discarded.
    fn new(streams: &Logging, level: Option<LevelFilter>) -> Routes {
        let mut streams = streams.clone();
        if let Some(level) = level {
            let wanted = |stream: &mut Stream, lowest: LevelFilter| {
                if level >= lowest && *stream == Stream::Discard {
                    *stream = Stream::Stdout;
                } else if level < lowest {
                    *stream = Stream::Discard;
                }
            };
            wanted(&mut streams.error, LevelFilter::Error);
            wanted(&mut streams.info, LevelFilter::Info);
            wanted(&mut streams.debug, LevelFilter::Debug);
            wanted(&mut streams.protocol, LevelFilter::Debug);
        }
        let kept = |stream: Stream| stream != Stream::Discard;
        let needed = if kept(streams.debug) || kept(streams.protocol) {
            LevelFilter::Debug
        } else if kept(streams.info) {
            LevelFilter::Info
        } else if kept(streams.error) {
            LevelFilter::Warn
        } else {
            LevelFilter::Off
        };
        Routes { streams, level: level.unwrap_or(needed) }
    }

    /// Whether a single level describes which records are printed, and none goes to the standard error.
    fn is_plain(&self) -> bool {
        let Logging { info, protocol, error, debug, .. } = self.streams;
        let all = [error, info, debug];
        let gap = all.windows(2).any(|pair| pair[0] == Stream::Discard && pair[1] != pair[0]);
        protocol == debug && !gap && !all.contains(&Stream::Stderr)
    }

    fn stream(&self, metadata: &Metadata<'_>) -> Stream {
        match metadata.level() {
            level if level > self.level => Stream::Discard,
            Level::Error | Level::Warn => self.streams.error,
            Level::Info => self.streams.info,
            _ if is_protocol(metadata.target()) => self.streams.protocol,
            Level::Debug | Level::Trace => self.streams.debug,
        }
    }
}

fn is_protocol(target: &str) -> bool {
    target.strip_prefix(PROTOCOL).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Installs the logger, once in the life of the process.
///
/// # Errors
/// The system gives no descriptor or thread for the standard error.
pub(crate) fn start(streams: &Logging, level: Option<LevelFilter>) -> io::Result<Printer> {
    let routes = Routes::new(streams, level);
    let (level, printer) = (routes.level, Printer::of(&routes, SystemTime::now()));
    if printer == Printer::Femme {
        femme::with_level(level);
        return Ok(printer);
    }
    let output = Arc::new(File::from(io::stderr().as_fd().try_clone_to_owned()?));
    let stderr = Lines::start("stderr", output, printer.lost_line())?;
    if log::set_boxed_logger(Box::new(Router { routes, stderr })).is_ok() {
        log::set_max_level(level);
    }
    Ok(printer)
}

/// The logger that prints the records.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Printer {
    /// femme, which by itself waits for a full standard output and panics on a closed one.
    Femme,
    /// Our own logger.
    Router(LogFormat),
}

impl Printer {
    /// femme writes JSON in release builds only, and panics on every record while the clock is before 1970.
    fn of(routes: &Routes, now: SystemTime) -> Printer {
        let format = routes.streams.format;
        let femme_has_it = format == LogFormat::Json && !cfg!(debug_assertions);
        if femme_has_it && routes.is_plain() && now >= UNIX_EPOCH {
            Printer::Femme
        } else {
            Printer::Router(format)
        }
    }

    /// The format of its line about lost lines.
    pub(crate) fn lost_line(self) -> fn(u64) -> String {
        match self {
            Printer::Femme | Printer::Router(LogFormat::Json) => |count| {
                json_line(
                    SystemTime::now(),
                    Level::Warn,
                    "hrotti",
                    &format_args!("{}", lost(count)),
                )
            },
            Printer::Router(LogFormat::Text) => |count| {
                text_line(
                    SystemTime::now(),
                    Level::Warn,
                    "hrotti",
                    &format_args!("{}", lost(count)),
                )
            },
        }
    }
}

fn lost(count: u64) -> String {
    format!("{count} lines were lost: the log was not read fast enough")
}

struct Router {
    routes: Routes,
    stderr: Arc<Lines>,
}

impl Log for Router {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.routes.stream(metadata) != Stream::Discard
    }

    fn log(&self, record: &Record<'_>) {
        let line = match self.routes.streams.format {
            LogFormat::Text => text_line,
            LogFormat::Json => json_line,
        };
        let text = || line(SystemTime::now(), record.level(), record.target(), record.args());
        match self.routes.stream(record.metadata()) {
            // One record, one line, one write. It goes through the pipe of `super::stdout`, which takes all.
            Stream::Stdout => drop(io::stdout().lock().write_all(text().as_bytes())),
            Stream::Stderr => self.stderr.push(text().as_bytes()),
            Stream::Discard => {}
        }
    }

    fn flush(&self) {
        self.stderr.flush();
    }
}

/// Milliseconds since 1970.
fn millis(at: SystemTime) -> u128 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

fn text_line(at: SystemTime, level: Level, target: &str, message: &fmt::Arguments<'_>) -> String {
    // The type refuses times before 1970.
    let time = humantime::format_rfc3339_millis(at.max(UNIX_EPOCH));
    format!("{time} {level:<5} {target} {message}\n")
}

/// A line as femme writes it.
fn json_line(at: SystemTime, level: Level, _: &str, message: &fmt::Arguments<'_>) -> String {
    let number = match level {
        Level::Trace => 10,
        Level::Debug => 20,
        Level::Info => 30,
        Level::Warn => 40,
        Level::Error => 50,
    };
    let message = serde_json::Value::String(message.to_string());
    format!("{{\"level\":{number},\"time\":{},\"msg\":{message}}}\n", millis(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where error, warn, info, debug, trace and protocol records go: o(ut), e(rr) or - (nowhere).
    fn shown(routes: &Routes) -> String {
        let to = |level, target| match routes
            .stream(&Metadata::builder().level(level).target(target).build())
        {
            Stream::Stdout => 'o',
            Stream::Stderr => 'e',
            Stream::Discard => '-',
        };
        let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
        let mut shown: String = levels.iter().map(|level| to(*level, "hrotti::broker")).collect();
        shown.push(to(Level::Debug, "hrotti::protocol"));
        shown
    }

    fn streams(info: Stream, protocol: Stream, error: Stream, debug: Stream) -> Logging {
        let mut logging = Logging::default();
        (logging.info, logging.protocol, logging.error, logging.debug) =
            (info, protocol, error, debug);
        logging
    }

    #[test]
    fn the_flag_chooses_the_level() {
        for (level, expected) in [
            (None, "ooo---"),
            (Some(LevelFilter::Off), "------"),
            (Some(LevelFilter::Error), "o-----"),
            (Some(LevelFilter::Warn), "oo----"),
            (Some(LevelFilter::Info), "ooo---"),
            (Some(LevelFilter::Debug), "oooo-o"),
            (Some(LevelFilter::Trace), "oooooo"),
        ] {
            let routes = Routes::new(&Logging::default(), level);
            assert_eq!(shown(&routes), expected, "{level:?}");
            assert!(routes.is_plain(), "{level:?}");
        }
    }

    #[test]
    fn the_file_chooses_the_streams() {
        use Stream::{Discard, Stderr, Stdout};
        for (logging, level, expected, plain) in [
            (streams(Stderr, Stderr, Stderr, Stderr), None, "eeee-e", false),
            (streams(Stdout, Discard, Stderr, Discard), None, "eeo---", false),
            (streams(Discard, Discard, Stdout, Discard), None, "oo----", true),
            (streams(Discard, Discard, Discard, Discard), None, "------", true),
            (streams(Stdout, Discard, Discard, Discard), None, "--o---", false),
            (streams(Stdout, Stdout, Stdout, Discard), None, "ooo--o", false),
            (streams(Stdout, Discard, Stdout, Stdout), None, "oooo--", false),
            (streams(Stdout, Stdout, Stdout, Stdout), None, "oooo-o", true),
            (streams(Stderr, Discard, Stderr, Discard), Some(LevelFilter::Debug), "eeeo-o", false),
            (streams(Stderr, Stderr, Stderr, Stderr), Some(LevelFilter::Warn), "ee----", false),
        ] {
            let routes = Routes::new(&logging, level);
            assert_eq!(shown(&routes), expected, "{logging:?} {level:?}");
            assert_eq!(routes.is_plain(), plain, "{logging:?} {level:?}");
        }
    }

    #[test]
    fn a_clock_before_1970_ends_no_log() {
        let second = std::time::Duration::from_secs(1);
        let before = UNIX_EPOCH - second;
        let mut json = Logging::default();
        json.format = LogFormat::Json;
        let printer = Printer::of(&Routes::new(&json, None), before);
        assert_eq!(printer, Printer::Router(LogFormat::Json));
        let text = text_line(before, Level::Warn, "hrotti", &format_args!("x"));
        assert_eq!(text, "1970-01-01T00:00:00.000Z WARN  hrotti x\n");
    }

    #[test]
    fn femme_prints_json_in_release_builds() {
        let mut json = Logging::default();
        json.format = LogFormat::Json;
        let now = UNIX_EPOCH + std::time::Duration::from_secs(1);
        let printer = |logging: &Logging| Printer::of(&Routes::new(logging, None), now);
        assert_eq!(printer(&Logging::default()), Printer::Router(LogFormat::Text));
        assert_eq!(printer(&json) == Printer::Femme, !cfg!(debug_assertions));
        json.error = Stream::Stderr;
        assert_eq!(printer(&json), Printer::Router(LogFormat::Json));
    }

    #[test]
    fn only_the_target_itself_and_what_is_under_it_is_protocol() {
        assert!(is_protocol("hrotti::protocol") && is_protocol("hrotti::protocol::in"));
        assert!(!is_protocol("hrotti::protocols") && !is_protocol("hrotti"));
    }

    #[test]
    fn a_line_has_time_level_target_and_message_and_is_one_line_in_both_formats() {
        let at = UNIX_EPOCH + std::time::Duration::from_millis(1_764_367_857_123);
        let text = text_line(at, Level::Warn, "hrotti", &format_args!("{} of {:?}", 1, "a\nb"));
        assert_eq!(text, "2025-11-28T22:10:57.123Z WARN  hrotti 1 of \"a\\nb\"\n");
        let json = json_line(at, Level::Info, "hrotti", &format_args!("a \"b\"\nc"));
        assert_eq!(json, "{\"level\":30,\"time\":1764367857123,\"msg\":\"a \\\"b\\\"\\nc\"}\n");
    }

    #[test]
    fn lost_lines_are_told_as_the_printer_prints() {
        let text = Printer::Router(LogFormat::Text).lost_line()(7);
        assert!(text.contains("WARN  hrotti 7 lines were lost") && text.ends_with('\n'), "{text}");
        for printer in [Printer::Femme, Printer::Router(LogFormat::Json)] {
            let text = printer.lost_line()(7);
            let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(line["level"], 40, "{text}");
            assert!(line["msg"].as_str().is_some_and(|msg| msg.starts_with("7 lines were lost")));
            assert!(text.ends_with('\n'), "{text}");
        }
    }
}
