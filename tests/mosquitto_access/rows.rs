//! Files, Clients and actions, the corner cases by hand.

use std::fmt;

/// Files, and what is asked of them.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The access control list, if one is configured.
    pub(crate) acl: Option<String>,
    /// Users and passwords, if a password file is configured.
    pub(crate) passwords: Option<&'static [(&'static str, &'static str)]>,
    pub(crate) anonymous: bool,
    pub(crate) rows: Vec<Row>,
}

/// A Client and its action.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) client_id: String,
    pub(crate) user_name: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start the server with the files.
    Load,
    /// CONNECT.
    Connect,
    /// Publish to a topic, which somebody with all rights is subscribed to.
    Publish(String),
    /// Receive what somebody with all rights publishes to a topic.
    Receive(String),
    /// Subscribe with a filter; messages with these topics are published.
    Subscribe(String, Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// CONNECT was refused, or the files were.
    Refused,
    No,
    Yes,
    Subscribed {
        granted: bool,
        received: Vec<String>,
    },
}

impl Answer {
    pub(crate) fn of(yes: bool) -> Answer {
        if yes { Answer::Yes } else { Answer::No }
    }

    pub(crate) fn is_yes(&self) -> bool {
        match self {
            Answer::Refused | Answer::No => false,
            Answer::Yes => true,
            Answer::Subscribed { received, .. } => !received.is_empty(),
        }
    }
}

impl Action {
    pub(crate) fn topic(&self) -> &str {
        match self {
            Action::Load | Action::Connect => "",
            Action::Publish(topic) | Action::Receive(topic) | Action::Subscribe(topic, _) => topic,
        }
    }
}

impl Case {
    pub(crate) fn new(name: &str, acl: &str) -> Case {
        Case {
            name: name.to_owned(),
            acl: Some(acl.to_owned()),
            passwords: None,
            anonymous: true,
            rows: Vec::new(),
        }
    }

    pub(crate) fn acl(&self) -> &str {
        self.acl.as_deref().unwrap_or_default()
    }

    /// Whether more than the start is asked for.
    pub(crate) fn is_served(&self) -> bool {
        self.rows.iter().any(|row| row.action != Action::Load)
    }

    /// Whether a pattern has this level.
    pub(crate) fn puts_in(&self, name: &str) -> bool {
        let mut patterns = self.acl().lines().filter(|line| line.starts_with("pattern "));
        patterns.any(|line| line.split(['/', ' ']).any(|level| level == name))
    }

    fn row(mut self, client: &str, action: Action) -> Case {
        self.rows.push(Row::of(client, action));
        self
    }

    fn load(self) -> Case {
        self.row("", Action::Load)
    }

    /// Publishing and receiving, for each of these topics.
    pub(crate) fn both(mut self, client: &str, topics: &[&str]) -> Case {
        for topic in topics {
            self = self
                .row(client, Action::Publish((*topic).to_owned()))
                .row(client, Action::Receive((*topic).to_owned()));
        }
        self
    }

    fn subscribe(self, client: &str, filter: &str, topics: &[&str]) -> Case {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        self.row(client, Action::Subscribe(filter.to_owned(), topics))
    }

    fn connects(mut self, clients: &[&str]) -> Case {
        for client in clients {
            self = self.row(client, Action::Connect);
        }
        self
    }
}

impl Row {
    /// A Client written as `ID`, `ID USER` or `ID USER PASSWORD`, with `_` for a space in a name, and `''` for an
    /// empty one.
    pub(crate) fn of(client: &str, action: Action) -> Row {
        let mut words = client.split(' ').map(|word| match word {
            "''" => String::new(),
            word => word.replace('_', " "),
        });
        Row {
            client_id: words.next().unwrap_or_default(),
            user_name: words.next(),
            password: words.next(),
            action,
        }
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {:?} user {:?} {:?}", self.client_id, self.user_name, self.action)
    }
}

const USERS: &[(&str, &str)] =
    &[("ann", "secret"), ("bob", "p:a ss"), ("a b", "x"), ("émile", "pässword")];

pub(crate) fn by_hand() -> Vec<Case> {
    let mut cases = vec![];
    cases.extend(connecting());
    cases.extend(loading());
    cases.extend(sections());
    cases.extend(patterns());
    cases.extend(subscribing());
    cases
}

fn connecting() -> Vec<Case> {
    let clients = [
        "c",
        "c ann secret",
        "c ann Secret",
        "c ann secre",
        "c ann secret1",
        "c ann",
        "c ann ''",
        "c bob p:a_ss",
        "c bob secret",
        "c a_b x",
        "c émile pässword",
        "c émile passwort",
        "c nobody secret",
        "c Ann secret",
        "c ''",
        "c '' secret",
        "c ann_ secret",
        "c old before",
        "c old after",
    ];
    let mut cases = Vec::new();
    for (passwords, anonymous) in
        [(None, true), (None, false), (Some(USERS), true), (Some(USERS), false)]
    {
        for acl in [None, Some("topic t\npattern p/%u")] {
            let name = format!(
                "connect: passwords {}, anonymous {anonymous}, acl {}",
                passwords.is_some(),
                acl.is_some()
            );
            let mut case = Case::new(&name, "");
            case.acl = acl.map(str::to_owned);
            (case.passwords, case.anonymous) = (passwords, anonymous);
            case = case.connects(&clients);
            if passwords.is_some() || anonymous {
                case = case.both("c", &["t"]).both("c ann secret", &["t", "p/ann", "other"]);
                case = case.subscribe("c ann secret", "#", &["t", "p/ann", "other"]);
            }
            cases.push(case);
        }
    }
    cases
}

/// Lines that make mosquitto refuse the file, and lines that do not.
const LINES: &[&str] = &[
    "topic a",
    "topic a ",
    "topic  a",
    " topic a",
    "topic read a",
    "topic read  a b  ",
    "topic write write",
    "topic readwrite a",
    "topic deny a",
    "topic read",
    "topic deny ",
    "pattern write",
    "topic",
    "topic ",
    "pattern",
    "Topic a",
    "TOPIC a",
    "topic READ a",
    "topic reed a",
    "topic a b",
    "topic a # c",
    "topics a",
    "foo a",
    "user",
    "user ",
    "user a b",
    "user  a",
    "user #a",
    "# c",
    " # c",
    "\ttopic a",
    "topic\ta",
    "topic read\ta",
    "topic a\t",
    "topic a\r",
    "user a\r",
    "   ",
    "\r",
    "topic a/#/b",
    "topic a#",
    "topic a+",
    "topic +a/b",
    "topic ##",
    "topic +/#",
    "topic #",
    "topic /",
    "topic a//b",
    "pattern a",
    "pattern a/%c",
    "pattern a/x%c",
    "pattern %u%c",
    "pattern deny a/%u",
    "topic a/%c",
    "topic a/x%c",
    "topic $share/g/a",
    "topic $share/#",
    "topic $SYS/#",
    "topic read deny a",
    "\u{feff}topic a",
    "user ann: 1",
];

fn loading() -> Vec<Case> {
    let mut cases: Vec<Case> = LINES
        .iter()
        .map(|line| Case::new(&format!("load {line:?}"), &format!("{line}\ntopic b\n")).load())
        .collect();
    for text in
        ["", "\n", "# nothing\n", "user ann\n", "topic a", "user ann\ntopic a", "topic a\n\n\n"]
    {
        cases.push(Case::new(&format!("load {text:?}"), text).load());
    }
    cases
}

fn sections() -> Vec<Case> {
    vec![
        Case::new("blanks", "topic  a  \n topic b\ntopic read   c d \nuser  a b \ntopic e\n")
            .both("c", &["a", " a", "b", "c d", " c d", "c d "])
            .both("c a_b", &["a", "e"])
            .both("c _a_b", &["e"]),
        Case::new("words", "topic read deny x\ntopic write read\ntopic readwrite user\n")
            .both("c", &["deny x", "x", "read", "user"]),
        Case::new(
            "sections",
            "topic a\nuser u\ntopic b\npattern p/%u\nuser v\ntopic c\nuser u\ntopic d\n",
        )
        .both("c", &["a", "b", "c", "d", "p/u", "p/"])
        .both("c u", &["a", "b", "c", "d", "p/u", "p/v"])
        .both("c v", &["a", "b", "c", "d", "p/u", "p/v"])
        .both("c w", &["a", "b", "p/w", "p/v"])
        .both("c ''", &["a", "b", "p/"]),
        Case::new(
            "names",
            "user a:b\ntopic a\nuser #x\ntopic b\nuser é\ntopic c\nuser A\ntopic d\n",
        )
        .both("c a:b", &["a", "b"])
        .both("c #x", &["a", "b"])
        .both("c é", &["c"])
        .both("c a", &["d"])
        .both("c A", &["d"]),
        Case::new(
            "order",
            "topic a\ntopic deny a\npattern deny b\npattern b\ntopic deny c\npattern c\n",
        )
        .both("c", &["a", "b", "c"]),
        Case::new("own before patterns", "pattern deny #\ntopic a\npattern b\n")
            .both("c", &["a", "b"]),
        Case::new(
            "access",
            "topic read r\ntopic write w\ntopic b\ntopic readwrite d/#\ntopic deny d/e\n",
        )
        .both("c", &["r", "w", "b", "d", "d/e", "d/f"]),
        Case::new("levels", "topic a/#\ntopic +/q\ntopic b/+\ntopic /c\ntopic d/\n").both(
            "c",
            &["a", "a/", "a/b/c", "/q", "x/q", "b", "b/", "b/x", "b/x/y", "/c", "c", "d", "d/"],
        ),
        Case::new("dollar", "topic #\ntopic +/x\ntopic $x/a\n")
            .both("c", &["$x/a", "$x/x", "x/x", "$x"]),
        Case::new("dollar denied", "topic deny #\npattern $x/#\n").both("c", &["$x/a", "x"]),
        Case::new("dollar and denial", "topic #\ntopic $x/#\ntopic deny $x/a\ntopic deny +/b\n")
            .both("c", &["$x/a", "$x/b", "x/b"]),
    ]
}

fn patterns() -> Vec<Case> {
    let names =
        "pattern c/%c\npattern u/%u/#\npattern b/%u/%c/x\npattern %c/f\npattern none\ntopic t/%c\n";
    let topics = [
        "c/id",
        "c/%c",
        "c/i/d",
        "c/i",
        "u/us",
        "u/us/x/y",
        "u/u/s",
        "u/u",
        "u/%u",
        "u/",
        "b/us/id/x",
        "b/u/s/i/d/x",
        "id/f",
        "i/d/f",
        "d/f",
        "none",
        "t/%c",
        "t/id",
        "$x/f",
        "/f",
        "//f",
        "c//",
        "c/",
    ];
    let mut case = Case::new("names put in", names);
    for client in
        ["id", "id us", "id u/s", "i/d", "i/d us", "i/d u/s", "id ''", "$x us", "/ us", "%c %u"]
    {
        case = case.both(client, &topics);
    }
    let mut wild = Case::new("wildcards in names", names);
    let clients = ["+", "#", "i+d us", "id +", "id #", "id u+s", "a/# us", "+/+ us", "# #"];
    for client in clients {
        wild =
            wild.both(client, &["c/x", "c/id", "none", "t/%c", "u/us", "x/f"]).connects(&[client]);
    }
    let mut plain = Case::new(
        "wildcards in names without patterns",
        "topic a\nuser +\ntopic b\nuser u#\ntopic c\n",
    );
    for client in clients {
        plain = plain.both(client, &["a", "b", "c"]).connects(&[client]);
    }
    let mut fixed = Case::new("wildcards in names and fixed patterns", "topic a\npattern b\n");
    for client in clients {
        fixed = fixed.both(client, &["a", "b", "c"]).connects(&[client]);
    }
    vec![case, wild, plain, fixed]
}

fn subscribing() -> Vec<Case> {
    let topics = ["home", "home/a", "home/a/b", "home/secret", "garden/a", "$x/a"];
    let filters = [
        "#",
        "+",
        "+/+",
        "+/#",
        "home",
        "home/+",
        "home/#",
        "home/secret",
        "home/a",
        "garden/#",
        "$x/#",
        "+/a",
    ];
    let mut cases = Vec::new();
    for acl in [
        "topic read home/+\n",
        "topic read home/+\ntopic deny home/secret\n",
        "topic read #\ntopic deny home/#\n",
        "topic read home/#\npattern deny #\n",
        "topic write #\n",
        "topic deny home/a\npattern read home/#\n",
        "pattern read home/%c\n",
        "pattern read home/%c/#\npattern deny home/a/b\n",
        "topic read $x/#\n",
        "topic read home/secret\ntopic deny home/secret\n",
    ] {
        let mut case = Case::new(&format!("subscribe {acl:?}"), acl);
        for filter in filters {
            case = case.subscribe("a", filter, &topics);
        }
        cases.push(case);
    }
    cases
}
