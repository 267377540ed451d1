//! Public keys, and signatures by them: ECDSA on P-256 and P-384, Ed25519, RSA, each with SHA-256
//! where a hash is its own choice. That is what `cosign generate-key-pair` and key management
//! services make.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::RawPublicKeyEntity;
use webpki::ring::{ECDSA_P256_SHA256, ECDSA_P384_SHA256, ED25519, RSA_PKCS1_2048_8192_SHA256};

const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 4] =
    [ECDSA_P256_SHA256, ECDSA_P384_SHA256, ED25519, RSA_PKCS1_2048_8192_SHA256];

/// A key whose signatures can be verified.
#[derive(Debug, Clone)]
pub(super) struct PublicKey(SubjectPublicKeyInfoDer<'static>);

impl PublicKey {
    /// The keys of a PEM file, one at least.
    pub(super) fn of_pem(pem: &[u8]) -> Result<Vec<Self>, String> {
        let keys = SubjectPublicKeyInfoDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|error| error.to_string())?;
        for key in &keys {
            RawPublicKeyEntity::try_from(key).map_err(|_| "a key in it is damaged".to_owned())?;
        }
        if keys.is_empty() {
            return Err("no public key in it".to_owned());
        }
        Ok(keys.into_iter().map(Self).collect())
    }

    /// Whether a signature of a message is by this key.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = RawPublicKeyEntity::try_from(&self.0) else { return false };
        // One that is for another kind of key refuses it by the key's own identifier.
        ALGORITHMS.iter().any(|kind| key.verify_signature(*kind, message, signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SigningKey as _};

    use super::*;

    #[test]
    fn a_signature_is_of_one_key_and_one_message() {
        for kind in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
            let (key, other) =
                (KeyPair::generate_for(kind).unwrap(), KeyPair::generate_for(kind).unwrap());
            let signature = key.sign(b"message").unwrap();
            let public =
                |key: &KeyPair| PublicKey::of_pem(key.public_key_pem().as_bytes()).unwrap();
            assert!(public(&key)[0].verifies(b"message", &signature));
            assert!(!public(&key)[0].verifies(b"another", &signature));
            assert!(!public(&other)[0].verifies(b"message", &signature));
            assert!(!public(&key)[0].verifies(b"message", &signature[1..]));
            let both = format!("{}{}", key.public_key_pem(), other.public_key_pem());
            assert_eq!(PublicKey::of_pem(both.as_bytes()).unwrap().len(), 2);
        }
    }

    #[test]
    fn rsa_and_p384_as_openssl_signs() {
        for (key, signature) in [
            (include_str!("testdata/rsa.pem"), include_bytes!("testdata/rsa.sig").as_slice()),
            (include_str!("testdata/p384.pem"), include_bytes!("testdata/p384.sig").as_slice()),
        ] {
            let key = PublicKey::of_pem(key.as_bytes()).unwrap().remove(0);
            assert!(key.verifies(b"message\n", signature));
            assert!(!key.verifies(b"message", signature));
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let private = KeyPair::generate().unwrap().serialize_pem();
        let garbage = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
        for pem in ["", "nonsense", private.as_str(), garbage] {
            assert!(PublicKey::of_pem(pem.as_bytes()).is_err(), "{pem}");
        }
    }
}
