//! Reads the files of a TLS listener.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use zeroize::Zeroizing;

use crate::listener_config::TlsConfig;
use crate::transport::tls::{TlsError, TlsErrors, TlsMaterial};

/// The largest file that is read, in bytes: a revocation list of a large authority has a few megabytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

impl TlsConfig {
    /// Reads the files and checks them together. Blocks. Relative paths are under the working directory; see
    /// [`TlsConfig::relative_to`].
    ///
    /// ```
    /// let errors = hrotti::TlsConfig::new("no-such.pem", "no-such.key").load().unwrap_err();
    /// assert_eq!(errors.iter().count(), 2);
    /// assert!(errors.to_string().starts_with("no-such.pem: "));
    /// ```
    ///
    /// # Errors
    /// Every file that cannot be read or used, with the reason and the remedy. No byte of the key is in them.
    pub fn load(&self) -> Result<TlsMaterial, TlsErrors> {
        let mut errors = Vec::new();
        let mut text = |path: &Path| match read(path) {
            Ok(text) => text,
            Err(error) => {
                errors.push(TlsError::new(path.display().to_string(), problem(&error)));
                Zeroizing::new(Vec::new())
            }
        };
        let name = |path: &Path| path.display().to_string();
        let (certificate, mut key) = (text(&self.certificate), text(&self.key));
        let mut material = TlsMaterial::new(certificate.to_vec(), std::mem::take(&mut *key))
            .with_sources(&name(&self.certificate), &name(&self.key))
            .with_client_certificate(self.client_certificate())
            .with_minimum_version(self.minimum_version);
        if let Some(path) = &self.client_ca {
            material = material.with_client_ca(&name(path), text(path).to_vec());
        }
        for path in &self.crl {
            material = material.with_crl(&name(path), text(path).to_vec());
        }
        if let Some(user_name) = self.user_name {
            material = material.with_user_name(user_name);
        }
        if !errors.is_empty() {
            return Err(TlsErrors(errors));
        }
        material.check()?;
        Ok(material)
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut text =
        Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0).min(1 << 20)));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

fn problem(error: &io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::NotFound => {
            "check the path; relative paths are under the directory of the configuration file"
        }
        ErrorKind::PermissionDenied => "let the user of the process read it",
        _ => "check the file",
    };
    format!("cannot be read: {error}; {remedy}")
}
