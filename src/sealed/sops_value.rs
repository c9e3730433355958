//! One encrypted value of SOPS: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`.

use aes_gcm::aead::consts::U32;
use aes_gcm::aead::generic_array::GenericArray;
use aes_gcm::aead::{AeadInPlace as _, KeyInit as _};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Tag};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::base::secret::Secret;

/// SOPS takes nonces of 32 bytes, where 12 are usual.
type Cipher = AesGcm<Aes256, U32>;

/// The key of all values of one file.
pub struct DataKey(Cipher);

/// A value as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    data: Vec<u8>,
    nonce: [u8; 32],
    tag: [u8; 16],
    kind: Kind,
}

/// What the value was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Bytes,
    Number,
    Truth,
}

impl DataKey {
    /// A key of 32 bytes.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        Cipher::new_from_slice(bytes).ok().map(DataKey)
    }
}

impl Sealed {
    /// Reads a value, if it has the form of an encrypted one.
    pub fn parse(text: &str) -> Option<Sealed> {
        let inner = text.strip_prefix("ENC[AES256_GCM,")?.strip_suffix(']')?;
        let mut fields = inner.split(',').map(|field| field.split_once(':'));
        let mut field = |name: &str| fields.next()?.filter(|(key, _)| *key == name).map(|(_, value)| value);
        let (data, nonce, tag) = (field("data")?, field("iv")?, field("tag")?);
        let kind = match field("type")? {
            "str" | "comment" | "time" => Kind::Text,
            "bytes" => Kind::Bytes,
            "int" | "float" => Kind::Number,
            "bool" => Kind::Truth,
            _ => return None,
        };
        let bytes = |text: &str| STANDARD.decode(text).ok();
        Some(Sealed {
            data: bytes(data)?,
            nonce: bytes(nonce)?.try_into().ok()?,
            tag: bytes(tag)?.try_into().ok()?,
            kind,
        })
    }

    /// What stands in its place while it is not opened.
    pub fn placeholder(&self, name: &str) -> Secret {
        match self.kind {
            Kind::Text | Kind::Bytes => Secret::new(format!("placeholder-for-{name}")),
            Kind::Number => Secret::scalar("0".into()),
            Kind::Truth => Secret::scalar("false".into()),
        }
    }

    /// The bytes that were encrypted, if the key, the place and every bit fit.
    pub fn open(&self, key: &DataKey, place: &str) -> Option<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(self.data.clone());
        let nonce = GenericArray::from_slice(&self.nonce);
        let opened = key.0.decrypt_in_place_detached(nonce, place.as_bytes(), &mut bytes, Tag::from_slice(&self.tag));
        opened.ok().map(|()| bytes)
    }

    /// The secret that opened bytes are.
    pub fn secret(&self, bytes: &[u8]) -> Secret {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        match self.kind {
            Kind::Text => Secret::new(text()),
            Kind::Bytes => Secret::file(bytes.to_vec()),
            Kind::Number => Secret::scalar(text()),
            Kind::Truth => Secret::scalar(text().to_lowercase()),
        }
    }
}
