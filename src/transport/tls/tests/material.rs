//! Certificates, keys and lists that cannot be used, and what is said of them.

use std::process::Command;

use super::*;

fn errors(material: &TlsMaterial) -> Vec<String> {
    let errors = material.check().expect_err("it cannot be used");
    errors.iter().map(ToString::to_string).collect()
}

fn one_error(material: &TlsMaterial, parts: &[&str]) {
    let errors = errors(material);
    assert_eq!(errors.len(), 1, "{errors:?}");
    for part in parts {
        assert!(errors[0].contains(part), "{part:?} is not in {errors:?}");
    }
    assert!(!errors[0].contains('\n'), "{errors:?}");
}

fn pair(certificate: &str, key: &str) -> TlsMaterial {
    TlsMaterial::new(certificate, key).with_sources("server.pem", "server.key")
}

#[test]
fn what_is_no_certificate_or_key_is_named_with_a_remedy() {
    let (certificate, key) = (SERVER.certificate.as_str(), SERVER.key.as_str());
    let other = SERVERS.server(&["other.test"]);
    let cut = &certificate[..certificate.len() / 2];
    for (certificate, key, parts) in [
        ("", key, &["server.pem: it is empty"][..]),
        (key, key, &["server.pem: there is no certificate in it"]),
        (cut, key, &["server.pem: a section has no -----END line"]),
        ("0\u{82}", key, &["server.pem: "]),
        (certificate, "", &["server.key: it is empty"]),
        (certificate, certificate, &["server.key: there is no private key in it"]),
        (
            certificate,
            &format!("{key}{key}"),
            &["server.key: there are 2 private keys in it; leave one"],
        ),
        (
            certificate,
            &other.key,
            &["server.key: the key does not belong to the first certificate in server.pem"],
        ),
        (
            &format!("{}{certificate}", other.certificate),
            key,
            &["put the server's own certificate first"],
        ),
        (
            certificate,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            &[
                "server.key: the private key is encrypted",
                "openssl pkey -in server.key -out decrypted.key",
            ],
        ),
        (
            certificate,
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,AA\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
            &["server.key: the private key is encrypted", "openssl pkey"],
        ),
        (
            certificate,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            &["server.key: the key cannot be used"],
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            key,
            &["server.pem: certificate 1 in it cannot be read"],
        ),
        (
            "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
            key,
            &["server.pem: a section is not base64"],
        ),
    ] {
        one_error(&pair(certificate, key), parts);
    }
    let der = TlsMaterial::new(SERVER.der.clone(), key).with_sources("server.der", "server.key");
    one_error(&der, &["server.der: it is DER, not PEM", "openssl x509 -inform der"]);
    assert_eq!(pair(certificate, key).check(), Ok(Vec::new()));
    let both = format!("{certificate}{}{key}", SERVERS.pem());
    assert_eq!(pair(&both, &both).check(), Ok(Vec::new()), "one file with everything");
}

#[test]
fn all_errors_come_at_once() {
    let material = pair("", "").with_client_ca("ca.pem", "x").with_crl("crl.pem", "y");
    let sources: Vec<_> = errors(&material)
        .iter()
        .map(|error| error.split(':').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(sources, ["server.pem", "server.key", "ca.pem"]);
}

#[test]
fn authorities_and_lists_are_checked_pitfall_10() {
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let list = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    for (material, parts) in [
        (plain().with_client_ca("ca.pem", ""), &["ca.pem: it is empty"][..]),
        (
            plain().with_client_ca("ca.pem", SERVER.key.clone()),
            &["ca.pem: there is no certificate"],
        ),
        (
            plain().with_client_ca("ca.pem", certificate),
            &["ca.pem: certificate 1 in it cannot be read"],
        ),
        (mutual().with_crl("a.crl", CLIENTS.pem()), &["a.crl: there is no revocation list in it"]),
        (mutual().with_crl("a.crl", list), &["a.crl: a revocation list in it: "]),
        (plain().with_user_name(CertificateName::Dns), &["clientCa: is missing"]),
        (plain().with_crl("a.crl", CLIENTS.revokes(&[], Valid::Now)), &["clientCa: is missing"]),
        (plain().with_client_certificate(ClientCertificate::Required), &["clientCa: is missing"]),
        (
            mutual().with_client_certificate(ClientCertificate::None),
            &["ca.pem: has no effect with clientCertificate \"none\""],
        ),
    ] {
        one_error(&material, parts);
    }
}

#[test]
fn what_has_expired_is_used_with_a_warning() {
    let old = SERVERS.server_valid(&["server.test"], Valid::Before);
    let material = pair(&old.certificate, &old.key)
        .with_client_ca("ca.pem", CLIENTS.pem())
        .with_crl("old.crl", CLIENTS.revokes(&[], Valid::Before));
    let warnings = material.check().expect("it can be used");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("server.pem: a certificate in it has expired, "));
    assert!(warnings[1].starts_with("old.crl: a revocation list in it has expired"));
}

/// Whatever is wrong with it.
#[test]
fn the_key_is_in_no_text() {
    let secret: Vec<&str> =
        SERVER.key.lines().skip(1).filter(|line| !line.starts_with('-')).collect();
    let shortened: Vec<_> =
        (0..SERVER.key.len()).step_by(7).map(|end| &SERVER.key[..end]).collect();
    for key in shortened {
        let material = pair(&SERVER.certificate, key);
        let said = format!("{:?} {material:?}", material.check());
        assert!(!secret.iter().any(|line| said.contains(&line[..line.len().min(20)])), "{said}");
    }
}

/// The three forms in which keys come.
#[test]
fn keys_of_every_form_and_kind_are_read() {
    let file =
        |name: &str| std::env::temp_dir().join(format!("hrotti-{}-{name}", std::process::id()));
    let openssl = |args: &[&str]| Command::new("openssl").args(args).output();
    let (key, certificate) = (file("key"), file("certificate"));
    let (key, certificate) = (key.to_str().expect("UTF-8"), certificate.to_str().expect("UTF-8"));
    for (make, begins) in [
        (
            &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key][..],
            "-----BEGIN PRIVATE KEY-----",
        ),
        (
            &["ecparam", "-name", "prime256v1", "-genkey", "-out", key],
            "-----BEGIN EC PARAMETERS-----",
        ),
        (
            &["ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", key],
            "-----BEGIN EC PRIVATE KEY-----",
        ),
        (&["genpkey", "-algorithm", "ED25519", "-out", key], "-----BEGIN PRIVATE KEY-----"),
        (&["genrsa", "-traditional", "-out", key, "2048"], "-----BEGIN RSA PRIVATE KEY-----"),
    ] {
        let Ok(made) = openssl(make) else { return }; // without openssl there is nothing to read
        assert!(made.status.success(), "{made:?}");
        let signed = openssl(&[
            "req",
            "-x509",
            "-key",
            key,
            "-out",
            certificate,
            "-subj",
            "/CN=server.test",
            "-days",
            "9",
        ]);
        assert!(signed.expect("openssl").status.success());
        let read = |path: &str| std::fs::read_to_string(path).expect("it was written");
        assert!(read(key).contains(begins), "{}", read(key));
        assert_eq!(pair(&read(certificate), &read(key)).check(), Ok(Vec::new()), "{make:?}");
    }
    for path in [key, certificate] {
        std::fs::remove_file(path).expect("it was written");
    }
}

/// As the manual of mosquitto makes them: without extensions, which makes them version 1.
#[test]
fn a_certificate_of_version_1_serves_and_one_of_a_client_is_refused_with_a_remedy() {
    let directory = std::env::temp_dir().join(format!("hrotti-v1-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let openssl =
        |args: &str| Command::new("openssl").args(args.split(' ')).current_dir(&directory).output();
    for args in [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 9",
        "req -new -newkey rsa:2048 -nodes -keyout v1.key -out v1.csr -subj /CN=server.test",
        "x509 -req -in v1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out v1.pem -days 9",
    ] {
        let Ok(made) = openssl(args) else { return }; // without openssl there is nothing to read
        assert!(made.status.success(), "{made:?}");
    }
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).expect("it was written");
    let shown = openssl("x509 -in v1.pem -noout -text").expect("openssl").stdout;
    let is_version_1 = String::from_utf8_lossy(&shown).contains("Version: 1 ");
    let (certificate, key) = (read("v1.pem"), read("v1.key"));
    assert_eq!(pair(&certificate, &key).check(), Ok(Vec::new()));
    one_error(&pair(&certificate, &SERVER.key), &["the key does not belong"]);
    if is_version_1 {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;

        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM").to_vec();
        let client = Issued { certificate, key, der, serial: Vec::new() };
        let refused = refusal(&plain().with_client_ca("ca.pem", read("ca.pem")), Some(&client));
        assert!(refused.contains("version 1; issue it again as version 3"), "{refused}");
    }
    std::fs::remove_dir_all(directory).expect("it was made");
}
