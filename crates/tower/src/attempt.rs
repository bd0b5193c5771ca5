//! What a handler may know of its key.

use firstseen_shared::Fingerprint;

/// What a handler may know of the key that it works for: an extension of each request that is protected by one.
///
/// ```
/// use axum::Extension;
/// use firstseen_tower::KeyedAttempt;
///
/// async fn charge(Extension(attempt): Extension<KeyedAttempt>) -> String {
///     // The bank charges once for this, however often it is asked.
///     let key = attempt.effect_key();
///     # let _ = key;
///     format!("receipt of attempt {}", attempt.number())
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::post(charge));
/// ```
///
/// **A request that passes unprotected has none**: one without a key where keys are optional
/// ([`Policy::stripe`](crate::Policy::stripe), [`Policy::key_required`](crate::Policy::key_required)), one of a method that
/// is not covered ([`Policy::methods`](crate::Policy::methods)), or one that is too large for
/// [`LargeRequest::PassUnprotected`](crate::LargeRequest::PassUnprotected). Axum answers 500 to those, unless the handler takes
/// an `Option`:
///
/// ```
/// # use axum::Extension;
/// # use firstseen_tower::KeyedAttempt;
/// async fn charge(attempt: Option<Extension<KeyedAttempt>>) -> String {
///     match attempt {
///         Some(Extension(attempt)) => format!("receipt of attempt {}", attempt.number()),
///         None => "receipt, and nobody knows of which attempt".to_owned(),
///     }
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::post(charge));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedAttempt {
    id: Vec<u8>,
    number: u32,
    token: u64,
}

impl KeyedAttempt {
    pub(crate) fn new(id: Vec<u8>, number: u32, token: u64) -> Self {
        Self { id, number, token }
    }

    /// Returns the id of the record: [`record_id`](crate::record_id).
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// Returns a key for effects elsewhere that take one: 64 hexadecimal digits, the same for each attempt of this
    /// request, and others for every other principal and key. Where a crash leaves an effect without its record, the
    /// next attempt asks for the same effect with it, and gets the first.
    pub fn effect_key(&self) -> String {
        Fingerprint::of_bytes(&self.id).to_string()
    }

    /// Returns which attempt this is, from one. Above one, an earlier one has failed or its process has died, and its
    /// effect may have happened.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns the fencing token: higher than that of every attempt of this key before. For resources that refuse an
    /// older one.
    pub fn token(&self) -> u64 {
        self.token
    }
}
