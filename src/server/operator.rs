//! A server behind an admin listener: what it is asked for over HTTP.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::{Server, ServerErrors};
use crate::access::Bans;
use crate::admin::{ConfiguredListener, Operation, Operator, OperatorError};
use crate::config::Change;
use crate::config::Setting;
use crate::runtime;

/// ```
/// use std::sync::Arc;
///
/// use futures_lite::future::block_on;
/// use hrotti::admin::Admin;
/// use hrotti::config::Config;
/// use hrotti::{AdminConfig, Server};
///
/// let config = Config::from_url("tcp://127.0.0.1:0", "a test")?;
/// block_on(async {
///     let server = Server::start(config, "".as_ref()).await?;
///     let admin = Admin::builder(server.broker().clone()).operator(Arc::new(server.clone()));
///     let admin = admin.serve(AdminConfig::new("http://127.0.0.1:0")?).await?;
///     println!("curl -X POST {}/api/v1/reload?dryRun=true", admin.endpoint());
///     admin.stop().await;
///     server.stop().await;
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Operator for Server {
    fn settings(&self) -> Vec<Setting> {
        self.config().settings()
    }

    fn listeners(&self) -> Vec<ConfiguredListener> {
        let config = self.config();
        let all = config.listeners.iter();
        all.map(|(name, listener)| ConfiguredListener::new(name, &listener.to_string())).collect()
    }

    fn reload(&self, dry_run: bool) -> Operation<'_, Result<Vec<String>, OperatorError>> {
        Box::pin(async move {
            let done = match dry_run {
                true => self.plan_from_source().await,
                false => self.reload_from_source().await,
            };
            let lines = |changes: Vec<Change>| changes.iter().map(ToString::to_string).collect();
            done.map(lines).map_err(|errors| OperatorError::Invalid(errors.0))
        })
    }

    fn start_listener<'a>(&'a self, name: &'a str) -> Operation<'a, Result<(), OperatorError>> {
        Box::pin(async move {
            self.check_name(name)?;
            self.start_listener(name).await.map_err(|errors| refused(&errors))
        })
    }

    fn stop_listener<'a>(&'a self, name: &'a str) -> Operation<'a, Result<(), OperatorError>> {
        Box::pin(async move {
            self.check_name(name)?;
            self.stop_listener(name).await.map_err(|errors| refused(&errors))
        })
    }

    fn bans(&self) -> Option<Arc<Bans>> {
        self.loaded().access().bans().cloned()
    }

    /// Bans of flapping Clients that have no file stay in memory.
    fn keep_bans(&self) -> Operation<'_, Result<(), OperatorError>> {
        Box::pin(async move {
            let config = self.config();
            let (Some(file), Some(bans)) = (&config.access.bans_file, Operator::bans(self)) else {
                return Ok(());
            };
            let path = self.shared.base.join(file);
            let name = path.display().to_string();
            let work = move || replace(&path, bans.to_json().as_bytes());
            let written = runtime::on_a_thread("bans", work).await.and_then(|written| written);
            written.map_err(|error| {
                let remedy = "let the user of the process write the file and its directory";
                OperatorError::Refused(format!(
                    "access.bansFile: {name}: cannot be written: {error}; {remedy}"
                ))
            })
        })
    }
}

impl Server {
    fn check_name(&self, name: &str) -> Result<(), OperatorError> {
        match self.config().listeners.iter().any(|(known, _)| known == name) {
            true => Ok(()),
            false => Err(OperatorError::Unknown(format!(
                "the configuration has no listener named {name:?}"
            ))),
        }
    }
}

fn refused(errors: &ServerErrors) -> OperatorError {
    OperatorError::Refused(errors.0.join("; "))
}

/// Replaces a file as a whole, with its permissions.
fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let permissions = fs::metadata(path)?.permissions();
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = Path::new(&name);
    let _ = fs::remove_file(beside);
    let mut file = fs::File::create_new(beside)?;
    let written = file
        .set_permissions(permissions)
        .and_then(|()| file.write_all(text))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(beside, path));
    written.inspect_err(|_| drop(fs::remove_file(beside)))
}
