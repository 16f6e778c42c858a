//! A server that is asked over HTTP.
//!
//! Requests block a thread of the policy's own, so that no asynchronous HTTP client, and no runtime for it, is needed.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use log::{info, warn};
use serde_json::Value;
use url::{Host, Url};

use super::config::shown_url;
use super::topic_lists::{Names, TopicLists};
use super::{
    Action, Answer, Authenticating, Credentials, Decision, HashingPool, Identity, Policy,
    Preparing, Present, Refusal, Request, Rule, Secret, Validity,
};
use crate::counters::count_one;
use crate::reason_code::ReasonCode;
use crate::runtime;
use crate::sync::lock;

mod cache;
mod exchange;
mod questions;
#[cfg(test)]
mod tests;

use cache::{Cache, Known};
use exchange::Why;
use questions::{Answered, Question};

/// A server that does not answer is asked again after this time, so that a failure does not last as long as an answer.
const FAILURE_KEPT: Duration = Duration::from_secs(2);

/// How requests are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpForm {
    /// As an HTML form (`application/x-www-form-urlencoded`).
    #[default]
    Form,
    /// As a JSON object. A Password that is no UTF-8 is refused, because JSON cannot say it.
    Json,
}

/// How answers are read. 4xx other than 408 and 429 is a no, and everything that is no clear answer is no yes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpAnswers {
    /// Status 200 is a yes. The content is not read.
    #[default]
    Status,
    /// Status 200 with a JSON object is a yes if its member `Ok` is `true`, and a no if that is `false`.
    Json,
}

/// Which server an [`HttpPolicy`] asks, and how. `Debug` leaves out what of its URLs may be secret: user, password and
/// query.
#[derive(Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// Asked whether a user may connect: `username`, `password`, `clientid`. Default: nobody is let in by this policy.
    pub user_url: Option<String>,
    /// Asked whether a user that was let in may do everything: `username`. Default: nobody may.
    pub superuser_url: Option<String>,
    /// Asked what a user may do: `username`, `clientid`, `topic`, and `acc`, which is 1 to receive, 2 to publish, 4 to
    /// subscribe. Default: this policy does not say.
    pub acl_url: Option<String>,
    /// How requests are written. Default: as a form.
    pub form: HttpForm,
    /// How answers are read. Default: by their status.
    pub answers: HttpAnswers,
    /// How long an answer of `acl_url` is good, give or take a tenth, so that not all end at once. Default 300 s; at least
    /// 1 s, at most a day.
    pub cache: Duration,
    /// Answers that are kept. Default 100 000. At the limit the oldest of the user with the most (without a user name, of
    /// the Client) is forgotten, and asked for again.
    pub cache_entries_max: usize,
    /// Bytes of the questions whose answers are kept. Default 67 108 864 (64 MiB). As for `cache_entries_max`.
    pub cache_bytes_max: usize,
    /// Time for the whole answer to a CONNECT or to a question, waiting for a thread included. Default 5 s. At the limit
    /// the answer is no.
    pub timeout: Duration,
    /// Requests at once, each on a thread. Default 4, range 1 to 64.
    pub requests_max: usize,
    /// Questions that wait for a thread. Default 1 000, range 1 to 1 000 000. At the limit the answer is no.
    pub waiting_max: usize,
    /// The longest JSON answer in bytes. Default 65 536 (64 KiB). A longer one is no yes.
    pub answer_bytes_max: usize,
}

impl Default for HttpSettings {
    fn default() -> HttpSettings {
        HttpSettings {
            user_url: None,
            superuser_url: None,
            acl_url: None,
            form: HttpForm::Form,
            answers: HttpAnswers::Status,
            cache: Duration::from_secs(300),
            cache_entries_max: 100_000,
            cache_bytes_max: 64 * 1024 * 1024,
            timeout: Duration::from_secs(5),
            requests_max: 4,
            waiting_max: 1_000,
            answer_bytes_max: 64 * 1024,
        }
    }
}

impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |url: &Option<String>| url.as_deref().map(shown_url);
        f.debug_struct("HttpSettings")
            .field("user_url", &shown(&self.user_url))
            .field("superuser_url", &shown(&self.superuser_url))
            .field("acl_url", &shown(&self.acl_url))
            .field("form", &self.form)
            .field("answers", &self.answers)
            .field("cache", &self.cache)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What an [`HttpPolicy`] has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpCounters {
    /// Requests that were sent or attempted.
    pub requests: u64,
    /// Requests without a clear answer.
    pub failed: u64,
    /// Questions that were not asked, because too many waited.
    pub refused: u64,
}

/// Asks a server over HTTP who may connect and what Clients may do, in the form of mosquitto-go-auth, which Home
/// Assistant's add-on and others serve.
///
/// - *Questions* are POST requests, one for each connection to the server. Redirections are not followed, and proxies
///   of the environment are not used. `https` is not supported; requests that carry passwords to another machine are
///   readable on the way there, which is said by a warning.
/// - *CONNECT*: `user_url` is asked, and then `superuser_url`, whose yes allows everything. Without a User Name, or with an
///   empty one, and with an Authentication Method, the next policy of a [`Chain`](super::Chain) decides. Without a
///   Password, or with an empty one, the answer is no without a question. These answers are not kept: a user who is
///   removed cannot connect again, and no trace of a password stays.
/// - *An access list*: with [`HttpAnswers::Json`], a yes to the user may have the member `acl`, an object
///   `{"pub": [...], "sub": [...], "all": [...]}`: Topic Filters to publish, to subscribe and receive, and all of it.
///   `${clientid}` and `${username}` stand for the Client's own. It decides as long as the Client is connected, and
///   `acl_url` is not asked. This is the best choice: nothing has to be asked later.
/// - *Topics*: `acl_url` is asked for each topic, and its answers are kept for a while, yes and no alike. No thread
///   that serves connections waits for the server. A SUBSCRIBE, a PUBLISH or a Will without a kept answer waits for it
///   ([`Policy::prepare`]), and for a Topic Filter without wildcards also the answer about receiving is fetched. A
///   delivery cannot wait: without a kept answer it is denied, and asked in the background for the next message.
///   A yes that is used in its last quarter is asked for again in the background, and is good meanwhile, until its end.
/// - *Failures*: without a clear answer within the time, the answer is no, for the next two seconds too.
///
/// ```
/// # use futures_lite::future::block_on;
/// use std::io::{Read, Write};
/// use std::sync::Arc;
///
/// use hrotti::access::{Answer, Credentials, HttpPolicy, HttpSettings, Policy};
///
/// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let mut settings = HttpSettings::default();
/// settings.user_url = Some(format!("http://{}/user", server.local_addr()?));
/// std::thread::spawn(move || -> std::io::Result<()> {
///     let (mut stream, _) = server.accept()?;
///     let mut request = Vec::new();
///     while !request.ends_with(b"username=ann&password=secret&clientid=c1") {
///         let mut buffer = [0; 1024];
///         let length = stream.read(&mut buffer)?;
///         request.extend_from_slice(&buffer[..length]);
///     }
///     stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")
/// });
///
/// let policy = Arc::new(HttpPolicy::new(settings)?);
/// let peer = hrotti::transport::PeerInfo::from("a test");
/// let shown = Credentials::new("c1", peer).with_password("ann", b"secret");
/// assert!(matches!(block_on(policy.authenticate(shown)), Answer::Accept { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct HttpPolicy {
    shared: Arc<Shared>,
    pool: HashingPool,
}

/// What the threads need too.
struct Shared {
    settings: HttpSettings,
    user: Option<Server>,
    superuser: Option<Server>,
    acl: Option<Server>,
    cache: Mutex<Cache>,
    /// Questions that are asked in the background.
    pending: Mutex<HashSet<Box<[u8]>>>,
    /// For the tenths by which the ends of answers differ.
    spread: RandomState,
    requests: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
}

/// One of the URLs.
struct Server {
    url: Url,
    /// The URL without its query, for rules and logs.
    shown: Arc<str>,
    yes: Rule,
    no: Rule,
    unknown: Rule,
    is_failing: AtomicBool,
}

/// What the identity of a user that the server let in keeps.
struct HttpGrant {
    address: Option<IpAddr>,
    superuser: bool,
    lists: Option<TopicLists>,
}

/// A question about a topic, which is also the key of its answer.
struct Asked {
    user: String,
    client_id: String,
    topic: String,
    acc: u8,
    address: Option<IpAddr>,
}

impl HttpPolicy {
    /// A policy with these settings. Its threads start with the first questions and end with the policy.
    ///
    /// # Errors
    /// One line with the key of the configuration, the problem with its URL and the remedy.
    pub fn new(settings: HttpSettings) -> Result<HttpPolicy, String> {
        let server = |key: &str, url: &Option<String>| {
            url.as_deref().map(|url| Server::new(key, url)).transpose()
        };
        let user = server("userUrl", &settings.user_url)?;
        let superuser = server("superuserUrl", &settings.superuser_url)?;
        let acl = server("aclUrl", &settings.acl_url)?;
        if user.is_none() && acl.is_none() {
            return Err("access.http: there is neither userUrl nor aclUrl; add one".to_owned());
        }
        if user.as_ref().is_some_and(Server::is_elsewhere) {
            warn!("access.http.userUrl is on another machine, and passwords go there in the clear");
        }
        let pool = HashingPool::new(settings.requests_max, settings.waiting_max);
        let cache = Mutex::new(Cache::new(settings.cache_entries_max, settings.cache_bytes_max));
        let shared = Arc::new(Shared {
            settings,
            user,
            superuser,
            acl,
            cache,
            pending: Mutex::default(),
            spread: RandomState::new(),
            requests: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        Ok(HttpPolicy { shared, pool })
    }

    /// What the policy has done so far.
    #[must_use]
    pub fn counters(&self) -> HttpCounters {
        let Shared { requests, failed, refused, .. } = &*self.shared;
        HttpCounters {
            requests: requests.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
        }
    }

    /// Asks the server what [`Policy::authorize`] would have to deny only because there is no answer yet: when the
    /// future ends, there is one, be it a no. `None`: there is an answer already.
    ///
    /// For a Topic Filter without wildcards, it also asks whether messages may be received.
    ///
    /// # Cancel safety
    /// A question that has not been sent is taken back.
    fn fetch(&self, request: &Request<'_>) -> Option<impl Future<Output = ()> + Send + use<>> {
        let mut open = Vec::new();
        let literal = request.action == Action::Subscribe && !request.topic.contains(['+', '#']);
        for action in
            [Some(request.action), literal.then_some(Action::Receive)].into_iter().flatten()
        {
            open.extend(self.open_question(&Request { action, ..*request }));
        }
        let asked: Vec<_> = open.into_iter().map(|asked| self.ask(asked)).collect();
        (!asked.is_empty()).then_some(async move {
            for answer in asked {
                answer.await;
            }
        })
    }

    /// The question behind a request, if the server has to be asked.
    fn open_question(&self, request: &Request<'_>) -> Option<Asked> {
        let grant = request.identity.grant::<HttpGrant>();
        let is_decided = grant.is_some_and(|grant| grant.superuser || grant.lists.is_some());
        if is_decided || self.shared.acl.is_none() {
            return None;
        }
        let asked = Asked {
            user: request.identity.user_name().unwrap_or_default().to_owned(),
            client_id: request.client_id.to_owned(),
            topic: request.topic.to_owned(),
            acc: questions::acc(request.action)?,
            address: grant.and_then(|grant| grant.address),
        };
        let known = lock(&self.shared.cache).get(&asked.key(), Instant::now());
        known.is_none().then_some(asked)
    }

    /// Asks the server about a topic, on a thread of the pool.
    fn ask(&self, asked: Asked) -> impl Future<Output = ()> + Send + use<> {
        let shared = self.shared.clone();
        let (deadline, address) = (deadline(shared.settings.timeout), asked.address);
        let (user, client_id) = (asked.user.clone(), asked.client_id.clone());
        let job = move || shared.ask_access(&asked, deadline);
        let answer = self.pool.submit_for_client(address, &user, &client_id, job);
        let policy = self.clone();
        async move {
            // Holds the policy, because the pool ends with its last clone.
            if answer.await.is_err() {
                count_one(&policy.shared.refused);
            }
        }
    }

    fn ask_in_background(&self, asked: Asked) {
        let key: Box<[u8]> = asked.key().into();
        if !lock(&self.shared.pending).insert(key.clone()) {
            return;
        }
        let pending = Pending { shared: self.shared.clone(), key };
        let answer = self.ask(asked);
        runtime::spawn(async move {
            let _pending = pending;
            answer.await;
        });
    }
}

/// A question that is asked in the background; no longer when this is dropped.
struct Pending {
    shared: Arc<Shared>,
    key: Box<[u8]>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        lock(&self.shared.pending).remove(&self.key);
    }
}

/// The end of a time from now. A time beyond the range of the clock is a day.
fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400))
}

impl Asked {
    /// Has a share of the cache: the user, or without a user name the Client.
    fn owner(&self) -> String {
        match self.user.as_str() {
            "" => format!("client {}", self.client_id),
            user => format!("user {user}"),
        }
    }

    /// User and Client Identifier are at most 65 535 bytes long, so their lengths keep the parts apart.
    fn key(&self) -> Vec<u8> {
        let mut key = vec![self.acc];
        for part in [&self.user, &self.client_id] {
            key.extend_from_slice(&part.len().to_be_bytes());
            key.extend_from_slice(part.as_bytes());
        }
        key.extend_from_slice(self.topic.as_bytes());
        key
    }
}

impl Server {
    fn new(key: &str, text: &str) -> Result<Server, String> {
        let (url, shown) =
            questions::url(text).map_err(|problem| format!("access.http.{key}: {problem}"))?;
        let shown: Arc<str> = shown.into();
        // Answers about topics end by themselves.
        let rule = |text| Rule::line(shown.clone(), 0, text).for_one_question();
        let (yes, no) = (rule("it says yes"), rule("it says no, or nothing"));
        let unknown = rule("it has not been asked yet");
        Ok(Server {
            url,
            yes,
            no,
            unknown,
            shown: shown.clone(),
            is_failing: AtomicBool::new(false),
        })
    }

    fn is_elsewhere(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name != "localhost",
            Some(Host::Ipv4(address)) => !address.is_loopback(),
            Some(Host::Ipv6(address)) => !address.is_loopback(),
            None => true,
        }
    }

    /// One line for each beginning and end of a failure (pitfall 18).
    fn note(&self, failure: Option<Why>) {
        let failed_before = self.is_failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(why) if !failed_before => {
                warn!("{}: {why}; without an answer, the answer is no", self.shown);
            }
            None if failed_before => info!("{} answers again", self.shown),
            _ => {}
        }
    }
}

/// What runs on the threads of the pool.
impl Shared {
    /// Asks a question. Whatever is no clear yes and no clear no is an error.
    fn put(
        &self,
        server: &Server,
        question: &Question<'_>,
        deadline: Instant,
    ) -> Result<Answered, Why> {
        let settings = &self.settings;
        let Some((kind, content)) = question.content(settings.form) else {
            return Ok(Answered::No);
        };
        count_one(&self.requests);
        let body_max = (settings.answers == HttpAnswers::Json).then_some(settings.answer_bytes_max);
        let response = exchange::post(&server.url, kind, content.as_bytes(), deadline, body_max);
        let answered = response.and_then(|response| questions::read(&response, settings.answers));
        server.note(answered.as_ref().err().copied());
        if answered.is_err() {
            count_one(&self.failed);
        }
        answered
    }

    /// Whether a user may connect; what the identity then keeps.
    fn ask_user(
        &self,
        server: &Server,
        shown: &Credentials,
        user: &str,
        password: &Secret,
        deadline: Instant,
    ) -> Answer {
        let refuse = |why| {
            Answer::Refuse(Refusal::bad_credentials(Rule::line(server.shown.clone(), 0, why)))
        };
        let question = Question::user(user, password.bytes(), &shown.client_id);
        let list = match self.put(server, &question, deadline) {
            Ok(Answered::Yes(list)) => list,
            Ok(Answered::No) => return refuse("it says no"),
            Err(why) => {
                let rule = Rule::line(server.shown.clone(), 0, why);
                return Answer::Refuse(Refusal::new(ReasonCode::SERVER_UNAVAILABLE, rule));
            }
        };
        let names = Names { user_name: Some(user), client_id: &shown.client_id };
        let lists = list.as_ref().filter(|list| **list != Value::Null);
        let lists = match lists.map(|list| TopicLists::read(list, &server.shown, names)).transpose()
        {
            Ok(lists) => lists,
            Err(why) => return refuse(why),
        };
        let superuser = self.superuser.as_ref().is_some_and(|server| {
            matches!(self.put(server, &Question::superuser(user), deadline), Ok(Answered::Yes(_)))
        });
        let address = shown.peer.address().map(|address| address.ip());
        let grant = HttpGrant { address, superuser, lists };
        let identity = Identity::new(server.yes.clone()).with_user_name(user);
        Answer::accept(identity.with_grant(Arc::new(grant)))
    }

    /// Asks about a topic and keeps the answer.
    fn ask_access(&self, asked: &Asked, deadline: Instant) {
        let Some(server) = &self.acl else { return };
        let question = Question::access(&asked.user, &asked.client_id, &asked.topic, asked.acc);
        let answered = self.put(server, &question, deadline);
        let key = asked.key();
        let kept = match &answered {
            Ok(_) => self.kept(&key),
            Err(_) => FAILURE_KEPT,
        };
        let yes = matches!(answered, Ok(Answered::Yes(_)));
        let now = Instant::now();
        let mut cache = lock(&self.cache);
        // A yes that is still good outlives a failure of the server, and no longer than it would have.
        if answered.is_err() && cache.get(&key, now).is_some() {
            return cache.refresh_later(&key, now + kept);
        }
        cache.put(&asked.owner(), &key, cache::Good { yes, since: now, lasting: kept });
    }

    /// How long an answer is good: as the settings say, give or take a tenth.
    fn kept(&self, key: &[u8]) -> Duration {
        let kept = self.settings.cache.clamp(Duration::from_secs(1), Duration::from_secs(86_400));
        let permille = u32::try_from(self.spread.hash_one(key) % 201).unwrap_or(100);
        kept * (900 + permille) / 1_000
    }
}

impl Policy for HttpPolicy {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        let is_asked = shown.authentication_method.is_none() && self.shared.user.is_some();
        // mosquitto takes an empty User Name for none.
        let user = shown.user_name.clone().filter(|user| is_asked && !user.is_empty());
        let Some(user) = user else {
            return Box::pin(std::future::ready(Answer::NoAnswer));
        };
        let shared = self.shared.clone();
        let deadline = deadline(shared.settings.timeout);
        let address = shown.peer.address().map(|address| address.ip());
        let Some(password) = shown.password.clone().filter(|password| !password.bytes().is_empty())
        else {
            let refusal = Refusal::bad_credentials(Rule::named("an empty password is no password"));
            return Box::pin(std::future::ready(Answer::Refuse(refusal)));
        };
        let asked = user.clone();
        let job = move || match &shared.user {
            Some(server) => shared.ask_user(server, &shown, &asked, &password, deadline),
            None => Answer::NoAnswer,
        };
        let is_let_in = |answer: &Answer| match answer {
            Answer::Accept { .. } => Some(true),
            Answer::Refuse(refusal) => {
                (refusal.reason() == ReasonCode::BAD_USER_NAME_OR_PASSWORD).then_some(false)
            }
            _ => None,
        };
        let answer = self.pool.submit_check(address, &user, job, is_let_in);
        Box::pin(async move {
            // Holds the policy, because the pool ends with its last clone.
            answer.await.unwrap_or_else(|_| {
                count_one(&self.shared.refused);
                let rule = Rule::named("too many questions wait for the HTTP server");
                Answer::Refuse(Refusal::new(ReasonCode::SERVER_BUSY, rule))
            })
        })
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        let grant = request.identity.grant::<HttpGrant>();
        if grant.is_some_and(|grant| grant.superuser) {
            return Decision::Allow(Rule::named("the HTTP server says that it is a superuser"));
        }
        if let Some(lists) = grant.and_then(|grant| grant.lists.as_ref()) {
            return lists.authorize(request);
        }
        let Some(server) = &self.shared.acl else { return Decision::NoAnswer };
        let Some(acc) = questions::acc(request.action) else {
            return Decision::Allow(Rule::named("everybody may unsubscribe"));
        };
        let asked = Asked {
            user: request.identity.user_name().unwrap_or_default().to_owned(),
            client_id: request.client_id.to_owned(),
            topic: request.topic.to_owned(),
            acc,
            address: grant.and_then(|grant| grant.address),
        };
        let known = lock(&self.shared.cache).get(&asked.key(), Instant::now());
        match known {
            Some(Known::Yes { is_due }) => {
                if is_due {
                    self.ask_in_background(asked);
                }
                Decision::Allow(server.yes.clone())
            }
            Some(Known::No) => Decision::Deny(server.no.clone()),
            None => {
                self.ask_in_background(asked);
                Decision::Deny(server.unknown.clone())
            }
        }
    }

    fn prepare(&self, request: &Request<'_>) -> Option<Preparing> {
        Some(Box::pin(self.fetch(request)?))
    }

    /// The server is not asked again: a user whom it has let in is current as long as the same server is asked for users.
    fn validity(&self, client: &Present<'_>) -> Validity {
        match client.identity.grant::<HttpGrant>() {
            Some(_) => {
                let server = self.shared.user.as_ref();
                let is_same = server.is_some_and(|server| server.yes == *client.identity.rule());
                Validity::current_if(is_same)
            }
            None => Validity::Foreign,
        }
    }
}

impl fmt::Debug for HttpPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |server: &Option<Server>| server.as_ref().map(|server| server.shown.clone());
        let shared = &*self.shared;
        f.debug_struct("HttpPolicy")
            .field("user", &shown(&shared.user))
            .field("superuser", &shown(&shared.superuser))
            .field("acl", &shown(&shared.acl))
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}
