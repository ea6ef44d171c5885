// ANCHOR: program
//! Makes a CA for development, and certificates that it has signed.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};

type Ca = CertifiedIssuer<'static, KeyPair>;

// ANCHOR: main
fn main() -> Result<(), Box<dyn Error>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "a CA for development");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    write("ca.pem", 0o644, &ca.pem())?;

    let server = ExtendedKeyUsagePurpose::ServerAuth;
    let here = ["localhost", "127.0.0.1", "::1"];
    sign(&ca, server.clone(), "localhost", &here, ["cert.pem", "key.pem"])?;

    // For the page about certificates.
    let name = "example.localhost";
    let files = ["example-cert.pem", "example-key.pem"];
    sign(&ca, server, name, &[name], files)?;
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    sign(&ca, client, "alice", &[], ["client-cert.pem", "client-key.pem"])?;
    Ok(())
}
// ANCHOR_END: main

// ANCHOR: sign
fn sign(
    ca: &Ca,
    usage: ExtendedKeyUsagePurpose,
    common_name: &str,
    alternative_names: &[&str],
    [cert_file, key_file]: [&str; 2],
) -> Result<(), Box<dyn Error>> {
    let names: Vec<String> =
        alternative_names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, ca)?;
    write(cert_file, 0o644, &cert.pem())?;
    write(key_file, 0o600, &key.serialize_pem())?;
    Ok(())
}
// ANCHOR_END: sign

// ANCHOR: write
/// Writes a new file: one that exists is not replaced.
fn write(file: &str, mode: u32, pem: &str) -> Result<(), Box<dyn Error>> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options
        .open(file)
        .and_then(|mut opened| opened.write_all(pem.as_bytes()))
        .map_err(|error| format!("{file}: {error}"))?;
    println!("wrote {file}");
    Ok(())
}
// ANCHOR_END: write
// ANCHOR_END: program
