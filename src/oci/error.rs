//! Prints the error body of the distribution-spec: a code that clients know, and a message for a person.

use serde_json::json;

/// Error codes of the distribution-spec ("Error Codes") that a proxy uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Blob unknown to registry.
    BlobUnknown,
    /// Blob upload unknown to registry.
    UploadUnknown,
    /// Manifest unknown to registry.
    ManifestUnknown,
    /// Repository name not known to registry.
    NameUnknown,
    /// Authentication required.
    Unauthorized,
    /// Access to the resource is denied.
    Denied,
    /// The operation is unsupported.
    Unsupported,
    /// Too many requests.
    TooManyRequests,
    /// Not in the list of the specification; distribution uses it for 503, and clients retry.
    Unavailable,
    /// Not in the list of the specification; distribution uses it for all unexpected errors.
    Unknown,
}

impl Code {
    /// The code as written in the body.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::UploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// The JSON body: `{"errors":[{"code":...,"message":...}]}`.
#[must_use]
pub fn error_body(code: Code, message: &str) -> String {
    json!({ "errors": [{ "code": code.as_str(), "message": message }] }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_json_whatever_the_message() {
        let body = error_body(Code::Denied, "a \"quoted\"\nline");
        let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(parsed["errors"][0]["code"], "DENIED");
        assert_eq!(parsed["errors"][0]["message"], "a \"quoted\"\nline");
    }
}
