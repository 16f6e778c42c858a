//! Which brokers a comparison starts, and where their programs are.

use std::path::PathBuf;
use std::{env, io};

use super::files::{first_there, in_path, peers_directory};
use super::{Broker, Kind};
use crate::args::Brokers;

/// What is compared, and a line for each peer that is not because it is not installed.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) brokers: Vec<Broker>,
    pub(crate) left_out: Vec<String>,
}

/// hrotti, the peers that are installed, and the null broker if it is wanted; or those of them that
/// were named.
///
/// # Errors
///
/// When a broker that was named, or hrotti, is not there.
pub(crate) fn choose(args: &Brokers) -> io::Result<Choice> {
    let mut choice = Choice::default();
    for kind in Kind::ALL {
        let named = args.only.iter().any(|name| name == kind.name());
        let by_default = args.only.is_empty() && kind != Kind::Null;
        if !(named || by_default || (kind == Kind::Null && args.floor)) {
            continue;
        }
        let given = given(args, kind);
        let place = given.clone().map_or_else(|| first_there(places(kind)?), Some);
        let Some(place) = place.filter(|place| is_installed(kind, place)) else {
            let (name, place) = (kind.name(), given.unwrap_or_default());
            let missing = format!("{name} is not installed: {}", remedy(kind));
            if !place.as_os_str().is_empty() {
                let text = format!("there is no {name} at {}", place.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
            if named || kind == Kind::Hrotti {
                return Err(io::Error::new(io::ErrorKind::NotFound, missing));
            }
            choice.left_out.push(missing);
            continue;
        };
        choice.brokers.push(Broker::new(kind, place));
    }
    add_worker_variants(args, &mut choice.brokers);
    Ok(choice)
}

/// The observed hrotti alone, at this place or where it is by default.
///
/// # Errors
///
/// When it is not there.
pub(crate) fn observed_hrotti(hrotti: Option<PathBuf>) -> io::Result<Broker> {
    let only = vec![Kind::Hrotti.name().to_owned()];
    let choice = choose(&Brokers { hrotti, only, ..Brokers::default() })?;
    let hrotti = choice.brokers.first().map(Broker::observed);
    hrotti.ok_or_else(|| io::Error::other("hrotti was not chosen"))
}

impl Choice {
    /// Adds the first hrotti once more, observed, right behind it.
    ///
    /// # Errors
    ///
    /// When hrotti is not among the brokers.
    pub(crate) fn add_observed(&mut self) -> io::Result<()> {
        let first = self.brokers.iter().position(|broker| broker.kind == Kind::Hrotti);
        let first =
            first.ok_or_else(|| io::Error::other("--observed needs hrotti: add --only hrotti"))?;
        let observed = self.brokers[first].observed();
        self.brokers.insert(first + 1, observed);
        Ok(())
    }
}

/// Another hrotti for each number of workers, right behind the first.
fn add_worker_variants(args: &Brokers, brokers: &mut Vec<Broker>) {
    let Some(first) = brokers.iter().position(|broker| broker.kind == Kind::Hrotti) else { return };
    for (at, &workers) in args.hrotti_workers.iter().enumerate() {
        let variant = brokers[first].with_workers(workers);
        brokers.insert(first + 1 + at, variant);
    }
}

fn given(args: &Brokers, kind: Kind) -> Option<PathBuf> {
    match kind {
        Kind::Hrotti => args.hrotti.clone(),
        Kind::Mosquitto => args.mosquitto.clone(),
        Kind::Rumqttd => args.rumqttd.clone(),
        Kind::Aedes => args.aedes.clone(),
        Kind::Null => None,
    }
}

/// Where it may be when nobody says; the first that is there counts.
fn places(kind: Kind) -> Option<Vec<PathBuf>> {
    let program = env::current_exe().ok()?;
    let peer = |path: &str| peers_directory().map(|peers| peers.join(path));
    Some(match kind {
        // From the same build as this program.
        Kind::Hrotti => [vec![program.with_file_name("hrotti")], in_path("hrotti")].concat(),
        // Debian puts it where no user's path leads.
        Kind::Mosquitto => [vec!["/usr/sbin/mosquitto".into()], in_path("mosquitto")].concat(),
        Kind::Rumqttd => peer("bin/rumqttd").into_iter().chain(in_path("rumqttd")).collect(),
        Kind::Aedes => peer("aedes").into_iter().collect(),
        Kind::Null => vec![program],
    })
}

fn is_installed(kind: Kind, place: &std::path::Path) -> bool {
    match kind {
        Kind::Aedes => {
            place.join("server.mjs").exists() && place.join("node_modules/aedes").exists()
        }
        _ => place.is_file(),
    }
}

/// How a user gets it.
fn remedy(kind: Kind) -> &'static str {
    match kind {
        Kind::Hrotti => "cargo build --release, or give --hrotti PATH",
        Kind::Mosquitto => "apt-get install mosquitto, or give --mosquitto PATH",
        Kind::Rumqttd => {
            "bench/peers/install.sh, or cargo install rumqttd --version 0.20.0, or give --rumqttd PATH"
        }
        Kind::Aedes => "bench/peers/install.sh (needs node and npm), or give --aedes DIR",
        Kind::Null => "it is part of hrotti-bench",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Brokers {
        // A program that is there, whatever it is.
        let there = Some(env::current_exe().unwrap());
        let only = vec!["hrotti".to_owned()];
        Brokers { hrotti: there, only, ..Brokers::default() }
    }

    fn names(args: &Brokers) -> Vec<String> {
        choose(args).unwrap().brokers.into_iter().map(|broker| broker.name).collect()
    }

    #[test]
    fn only_what_is_named_is_started() {
        assert_eq!(names(&args()), ["hrotti"]);
        assert_eq!(names(&Brokers { floor: true, ..args() }), ["hrotti", "null"]);
        let null = Brokers { only: vec!["null".to_owned()], ..args() };
        assert_eq!(names(&null), ["null"]);
    }

    #[test]
    fn variants_stand_behind_the_first() {
        let args = Brokers { hrotti_workers: vec![2, 4], floor: true, ..args() };
        assert_eq!(names(&args), ["hrotti", "hrotti-w2", "hrotti-w4", "null"]);
    }

    #[test]
    fn the_observed_one_stands_behind_the_first() {
        let mut choice = choose(&Brokers { hrotti_workers: vec![2], ..args() }).unwrap();
        choice.add_observed().unwrap();
        let names: Vec<_> = choice.brokers.iter().map(|broker| broker.name.as_str()).collect();
        assert_eq!(names, ["hrotti", "hrotti-observed", "hrotti-w2"]);
        assert!(choice.brokers[1].is_observed());
        let mut null = choose(&Brokers { only: vec!["null".to_owned()], ..args() }).unwrap();
        assert!(null.add_observed().unwrap_err().to_string().contains("needs hrotti"));
    }

    #[test]
    fn a_peer_that_is_not_installed_is_left_out_unless_it_was_named() {
        let nowhere = || Some(PathBuf::from("/nonexistent/broker"));
        let error = choose(&Brokers { rumqttd: nowhere(), only: vec![], ..args() }).unwrap_err();
        assert_eq!(error.to_string(), "there is no rumqttd at /nonexistent/broker");
        // Beside the program that runs the tests there is no aedes.
        let without = choose(&Brokers { only: vec![], ..args() }).unwrap();
        assert!(
            without
                .left_out
                .iter()
                .any(|line| { line.starts_with("aedes is not installed: bench/peers/install.sh") })
        );
        let only = vec!["aedes".to_owned()];
        let error = choose(&Brokers { only, ..args() }).unwrap_err().to_string();
        assert!(error.contains("aedes is not installed"), "{error}");
    }

    #[test]
    fn the_installer_installs_what_the_line_says() {
        let script = include_str!("../../peers/install.sh");
        let (_, command) = remedy(Kind::Rumqttd).split_once("cargo install ").unwrap();
        let what = command.split(',').next().unwrap();
        assert!(script.contains(&format!("cargo install {what} ")), "{what}");
        let lock = include_str!("../../peers/aedes/package-lock.json");
        assert!(!lock.contains("\"resolved\""), "packages come from the user's own registry");
    }
}
