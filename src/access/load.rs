//! From the access settings of a configuration to one policy: reads every file, and reports all errors at once.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    AccessConfig, AccessFile, AclFile, AllowAll, Anonymous, Answer, Authenticating, Bans, Chain,
    Credentials, Decision, FileContent, FileError, Flapping, HashingPool, Identity, Policy,
    Preparing, Present, Request, Rule, Validity,
};
use crate::limits::Limits;
use crate::transport::{PeerIdentity, PeerInfo};

mod sources;

/// The access rules of a configuration, with everything that they need read from files.
///
/// ```
/// use hrotti::Limits;
/// use hrotti::access::AccessConfig;
///
/// let nothing = AccessConfig::default().load("".as_ref(), &Limits::default()).unwrap();
/// assert!(nothing.policy().is_none(), "without a setting, everybody is served");
///
/// let mut config = AccessConfig::default();
/// config.acl_file = Some("no/such/file".into());
/// let errors = config.load("".as_ref(), &Limits::default()).unwrap_err();
/// assert!(errors[0].starts_with("access.aclFile: no/such/file: it cannot be read"));
/// ```
#[derive(Clone, Default)]
pub struct LoadedAccess {
    policy: Option<Arc<dyn Policy>>,
    authenticators: Vec<AccessPart>,
    authorizers: Vec<AccessPart>,
    acl: Option<Arc<AclFile>>,
    bans: Option<Arc<Bans>>,
    warnings: Vec<String>,
    files: Vec<FileMark>,
}

/// A file that was read, and what tells its contents from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileMark {
    pub(crate) key: String,
    pub(crate) file: String,
    mark: u64,
}

/// What the access rules depend on in a listener.
///
/// ```
/// use hrotti::Limits;
/// use hrotti::access::{AccessConfig, ListenerAccess};
///
/// let mut config = AccessConfig::default();
/// config.anonymous = Some(true);
/// let mut listener = ListenerAccess::new("tls");
/// listener.certificate_names = true;
/// let loaded = config.load_for("".as_ref(), &Limits::default(), &[listener]).unwrap();
/// assert!(loaded.policy().is_some());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerAccess {
    /// Its name.
    pub name: String,
    /// [`ListenerRules::anonymous`](crate::ListenerRules::anonymous). Default: `None`.
    pub anonymous: Option<bool>,
    /// Whether it takes user names from Clients' certificates. Default: no.
    pub certificate_names: bool,
}

impl ListenerAccess {
    /// A listener of this name, with the defaults.
    #[must_use]
    pub fn new(name: &str) -> ListenerAccess {
        ListenerAccess { name: name.to_owned(), anonymous: None, certificate_names: false }
    }
}

/// One policy of a [`LoadedAccess`].
#[derive(Clone)]
#[non_exhaustive]
pub struct AccessPart {
    /// The key of the configuration that it comes from.
    pub key: &'static str,
    /// What it is: its file, and how much is in it.
    pub what: String,
    /// The policy itself.
    pub policy: Arc<dyn Policy>,
}

impl LoadedAccess {
    /// The policy for [`BrokerBuilder::policy`](crate::BrokerBuilder::policy): [`LoadedAccess::authenticators`] say who
    /// may connect, and [`LoadedAccess::authorizers`] what a Client may do. `None` without access settings.
    #[must_use]
    pub fn policy(&self) -> Option<Arc<dyn Policy>> {
        self.policy.clone()
    }

    /// The policies that are asked at CONNECT, in their order. The first that answers decides, and no answer is a no.
    #[must_use]
    pub fn authenticators(&self) -> &[AccessPart] {
        &self.authenticators
    }

    /// The policies that are asked for each action, in their order. The first that answers decides, and no answer is a
    /// no.
    #[must_use]
    pub fn authorizers(&self) -> &[AccessPart] {
        &self.authorizers
    }

    /// The access control list, if there is one.
    #[must_use]
    pub fn acl(&self) -> Option<&AclFile> {
        self.acl.as_deref()
    }

    /// The bans, if there is a file of them or flapping Clients are banned. More may be added while the broker runs.
    #[must_use]
    pub fn bans(&self) -> Option<&Arc<Bans>> {
        self.bans.as_ref()
    }

    /// The files that were read.
    pub(crate) fn files(&self) -> &[FileMark] {
        &self.files
    }

    /// What an operator should change, although everything can be used: one line each, with the remedy.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl fmt::Debug for LoadedAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedAccess")
            .field("authenticators", &self.authenticators)
            .field("authorizers", &self.authorizers)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AccessPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessPart")
            .field("key", &self.key)
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

impl AccessConfig {
    /// Reads the files and makes a policy of everything. Relative paths are under `base`, the directory of the
    /// configuration file. `limits` bounds the checks of passwords and the number of bans. Blocks while files are read.
    ///
    /// At CONNECT, these are asked in this order: bans, the access control list (which refuses names with wildcards),
    /// the name in a Client's certificate, tokens, SCRAM, the check over HTTP, the password file, dynamic security,
    /// and whether anonymous Clients are let in. About actions: the access control list, dynamic security, the
    /// rules of tokens, the check over HTTP; if none of them is set, everything is allowed.
    ///
    /// Nobody is let in by a user name that nothing checks, because the listeners are not known:
    /// [`AccessConfig::load_for`] knows them.
    ///
    /// # Errors
    /// Every error of every file, one line each, with file, line and remedy. Nothing that can be used in part is used
    /// in part.
    pub fn load(&self, base: &Path, limits: &Limits) -> Result<LoadedAccess, Vec<String>> {
        self.load_for(base, limits, &[])
    }

    /// [`AccessConfig::load`] for these listeners, which must be all of the broker.
    ///
    /// If `anonymous` is `Some(true)`, nothing checks user names, and no listener takes them from certificates, then
    /// Clients are let in with any user name. A listener that takes names from certificates makes them worth something, and
    /// nobody may type one in at another listener.
    ///
    /// # Errors
    /// As for [`AccessConfig::load`].
    pub fn load_for(
        &self,
        base: &Path,
        limits: &Limits,
        listeners: &[ListenerAccess],
    ) -> Result<LoadedAccess, Vec<String>> {
        if !self.is_set() {
            return Ok(LoadedAccess::default());
        }
        let mut loading = Loading::new(base, limits, listeners);
        loading.bans(self);
        loading.acl(self);
        loading.certificates();
        loading.jwt(self);
        loading.scram(self);
        loading.http(self);
        loading.passwords(self);
        loading.dynamic_security(self);
        loading.anonymous(self);
        loading.finish()
    }
}

/// What was loaded so far.
struct Loading<'a> {
    base: &'a Path,
    limits: &'a Limits,
    listeners: &'a [ListenerAccess],
    #[allow(dead_code, reason = "not with all features")]
    hashing: HashingPool,
    loaded: LoadedAccess,
    /// The policies that say what may be done, with their turns.
    authorizers: Vec<(Turn, AccessPart)>,
    /// Some policy checks user names.
    checks_names: bool,
    errors: Vec<String>,
}

/// The place of a policy in the order in which they say what may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(dead_code, reason = "not with all features")]
enum Turn {
    Acl,
    DynamicSecurity,
    Jwt,
    Http,
}

impl<'a> Loading<'a> {
    fn new(base: &'a Path, limits: &'a Limits, listeners: &'a [ListenerAccess]) -> Loading<'a> {
        Loading {
            base,
            limits,
            listeners,
            hashing: HashingPool::with_limits(limits),
            loaded: LoadedAccess::default(),
            authorizers: Vec::new(),
            checks_names: false,
            errors: Vec::new(),
        }
    }

    /// Reads a file and makes something of its text. Errors and warnings are kept.
    fn file<T, E: fmt::Display>(
        &mut self,
        key: &str,
        path: &Path,
        content: FileContent,
        parse: impl FnOnce(&str, &str) -> Result<T, E>,
    ) -> Option<T> {
        let path: PathBuf = self.base.join(path);
        let file = match AccessFile::read(&path, content) {
            Ok(file) => file,
            Err(error) => {
                self.errors.push(format!("{key}: {error}"));
                return None;
            }
        };
        let warning = file.warning().map(|warning| format!("{key}: {warning}"));
        self.loaded.warnings.extend(warning);
        let mut hasher = DefaultHasher::new();
        file.text().hash(&mut hasher);
        let (key, name) = (key.to_owned(), file.source().to_owned());
        self.loaded.files.push(FileMark { key, file: name, mark: hasher.finish() });
        match parse(file.text(), file.source()) {
            Ok(made) => Some(made),
            Err(errors) => {
                self.errors.extend(errors.to_string().lines().map(str::to_owned));
                None
            }
        }
    }

    fn authenticates(&mut self, key: &'static str, what: String, policy: Arc<dyn Policy>) {
        self.loaded.authenticators.push(AccessPart { key, what, policy });
    }

    fn authorizes(&mut self, turn: Turn, key: &'static str, what: String, policy: Arc<dyn Policy>) {
        self.authorizers.push((turn, AccessPart { key, what, policy }));
    }

    fn bans(&mut self, config: &AccessConfig) {
        let max = self.limits.bans_max;
        let key = "access.bansFile";
        let from_file = config.bans_file.as_ref().map(|path| {
            let parse = |text: &str, source: &str| Bans::parse(text, source, max);
            (self.file(key, path, FileContent::Rules, parse), shown(self.base, path))
        });
        let (bans, what) = match from_file {
            Some((None, _)) => return,
            Some((Some(bans), what)) => (bans, what),
            None if config.flapping.is_some() => {
                (Bans::new(max), "bans of flapping Clients".to_owned())
            }
            None => return,
        };
        let bans = Arc::new(bans);
        let what = format!("{what}: {} in force", bans.list().len());
        self.authenticates(key, what, bans.clone());
        if let Some(flapping) = &config.flapping {
            let (disconnects, window, ban) = (flapping.disconnects, flapping.window, flapping.ban);
            let what = format!(
                "{disconnects} disconnects in {} s ban a Client for {} s",
                window.as_secs(),
                ban.as_secs()
            );
            let policy = Arc::new(Flapping::new(bans.clone(), disconnects, window, ban));
            self.authenticates("access.flapping", what, policy);
        }
        self.loaded.bans = Some(bans);
    }

    fn acl(&mut self, config: &AccessConfig) {
        let Some(path) = &config.acl_file else { return };
        let key = "access.aclFile";
        let Some(acl) = self.file(key, path, FileContent::Rules, AclFile::parse) else { return };
        let remarks = acl.remarks().iter().map(FileError::to_string);
        self.loaded.warnings.extend(remarks);
        let acl = Arc::new(acl);
        let what = shown(self.base, path);
        self.authenticates(key, what.clone(), acl.clone());
        self.authorizes(Turn::Acl, key, what, acl.clone());
        self.loaded.acl = Some(acl);
    }

    fn certificates(&mut self) {
        let what = "the user name that a listener takes from a Client's certificate".to_owned();
        self.authenticates("listeners.NAME.tls.userName", what, Arc::new(CertificateUsers));
    }

    fn anonymous(&mut self, config: &AccessConfig) {
        let certified = self.listeners.iter().any(|listener| listener.certificate_names);
        let any_name = config.anonymous == Some(true)
            && !self.checks_names
            && !certified
            && !self.listeners.is_empty();
        let inner = if any_name { Anonymous::with_any_name() } else { Anonymous::new() };
        let default = config.lets_in_anonymous(None);
        let what = match (default, any_name) {
            (true, false) => "Clients without a user name are let in",
            (true, true) => {
                "every Client is let in, with any user name, because nothing checks passwords"
            }
            (false, _) => {
                "Clients without a user name are not let in, unless their listener lets them in"
            }
        };
        if any_name && !self.authorizers.is_empty() {
            self.loaded.warnings.push(
                "access.anonymous: true lets Clients take any user name, because nothing checks passwords, so rules for \
                 users protect nothing; set access.passwordFile"
                    .to_owned(),
            );
        }
        if self.authorizers.is_empty() && (self.checks_names || certified) {
            self.warn_of_anonymous_clients_without_list(config);
        }
        let policy = Arc::new(AnonymousAt { default, inner: Arc::new(inner) });
        self.authenticates("access.anonymous", what.to_owned(), policy);
    }

    /// Somebody checks who users are, and then anonymous Clients may do all that users may.
    fn warn_of_anonymous_clients_without_list(&mut self, config: &AccessConfig) {
        let open = self.listeners.iter().filter(|one| config.lets_in_anonymous(one.anonymous));
        self.loaded.warnings.extend(open.map(|listener| {
            format!(
                "listener {}: anonymous Clients may publish and subscribe to every topic, as users may; set \
                 access.aclFile, or set listeners.{0}.anonymous to false",
                listener.name
            )
        }));
    }

    /// A key for which this build has no code.
    #[allow(dead_code, reason = "not with all features")]
    fn lacks(&mut self, key: &str, feature: &str) {
        self.errors.push(format!(
            "{key}: this program was built without the feature {feature}; build it with the feature, or remove the key"
        ));
    }

    fn finish(mut self) -> Result<LoadedAccess, Vec<String>> {
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        if self.authorizers.is_empty() {
            let what = "every Client may publish and subscribe to every topic".to_owned();
            self.authorizes(Turn::Acl, "access.aclFile", what, Arc::new(AllowAll));
        }
        self.authorizers.sort_by_key(|(turn, _)| *turn);
        self.loaded.authorizers = self.authorizers.into_iter().map(|(_, part)| part).collect();
        let chain = |parts: &[AccessPart]| {
            Chain::new(parts.iter().map(|part| part.policy.clone()).collect())
        };
        let authenticators = Arc::new(chain(&self.loaded.authenticators));
        let authorizers = chain(&self.loaded.authorizers);
        let composed = Arc::new(Composed { authenticators, authorizers });
        self.loaded.policy = Some(match &self.loaded.bans {
            // Also for the user name that comes out of the others' answers.
            Some(bans) => bans.guard(composed),
            None => composed,
        });
        Ok(self.loaded)
    }
}

fn shown(base: &Path, path: &Path) -> String {
    base.join(path).display().to_string().escape_debug().to_string()
}

/// Two chains, because what may be done is asked in another order than who may connect.
struct Composed {
    authenticators: Arc<Chain>,
    authorizers: Chain,
}

impl Policy for Composed {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        self.authenticators.clone().authenticate(shown)
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        self.authorizers.authorize(request)
    }

    fn prepare(&self, request: &Request<'_>) -> Option<Preparing> {
        self.authorizers.prepare(request)
    }

    fn validity(&self, client: &Present<'_>) -> Validity {
        self.authenticators.validity(client).and(self.authorizers.validity(client))
    }

    /// Only a policy that lets Clients in or refuses them needs to know.
    fn disconnected(&self, client: &Present<'_>) {
        self.authenticators.disconnected(client);
    }
}

/// Lets in Clients by the name that their listener takes from their certificate, whatever CONNECT says.
#[derive(Debug)]
struct CertificateUsers;

const BY_CERTIFICATE: Rule = Rule::named("the name in the Client's certificate");

impl Policy for CertificateUsers {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        let name = match shown.peer.identity() {
            Some(PeerIdentity::Certificate(names)) => names.user_name.as_deref(),
            _ => None,
        };
        let answer = match name {
            Some(name) if shown.authentication_method.is_none() => {
                Answer::accept(Identity::new(BY_CERTIFICATE).with_user_name(name))
            }
            _ => Answer::NoAnswer,
        };
        Box::pin(std::future::ready(answer))
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::NoAnswer
    }

    fn validity(&self, client: &Present<'_>) -> Validity {
        match *client.identity.rule() == BY_CERTIFICATE {
            true => Validity::Current,
            false => Validity::Foreign,
        }
    }
}

/// [`Anonymous`] where the listener, or else the configuration, lets in anonymous Clients.
#[derive(Debug)]
struct AnonymousAt {
    default: bool,
    inner: Arc<Anonymous>,
}

impl Policy for AnonymousAt {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        match shown.peer.listener_allows_anonymous().unwrap_or(self.default) {
            true => self.inner.clone().authenticate(shown),
            false => Box::pin(std::future::ready(Answer::NoAnswer)),
        }
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::NoAnswer
    }

    fn validity(&self, client: &Present<'_>) -> Validity {
        let allowed = client.peer.and_then(PeerInfo::listener_allows_anonymous);
        match allowed.unwrap_or(self.default) {
            true => self.inner.validity(client),
            false => Validity::Foreign,
        }
    }
}

#[cfg(test)]
mod tests;
