//! The files of a TLS listener, and the certificates in them.

use super::{CertificateName, names, pem};

pub(crate) fn tls_file(data: &[u8]) {
    let certificates = pem::certificates(data);
    for certificate in certificates.iter().flatten() {
        check_certificate(certificate);
    }
    check_certificate(data);
    let lists = pem::revocation_lists(data);
    for list in lists.iter().flatten() {
        let _ = names::next_update(list);
    }
    let _ = names::next_update(data);
    let key = pem::private_key(data, "server.key").map(drop);
    let errors = [certificates.map(drop).err(), lists.map(drop).err(), key.err()];
    for error in errors.into_iter().flatten() {
        assert!(!error.is_empty() && !error.contains('\n'), "{error:?}");
    }
}

fn check_certificate(der: &[u8]) {
    let _ = (names::validity(der), names::public_key(der));
    let plain = names::read(der, None);
    for name in CertificateName::ALL {
        let Ok(read) = names::read(der, Some(name)) else { continue };
        let user = read.user_name.clone().expect("the name was asked for");
        assert!(!user.is_empty() && !user.contains(char::is_control), "{user:?}");
        let all = [&read.dns, &read.uris, &read.emails].into_iter().flatten();
        let mut all = all.chain(&read.common_name).chain([&read.subject]);
        assert!(all.any(|name| *name == user), "{read:?}");
        assert_eq!(plain.as_ref().map(|plain| &plain.subject), Ok(&read.subject));
    }
}
