//! JSON schemas of what MessagePack has and JSON has not, for `#[schemars(schema_with = "…")]`.
//!
//! ```
//! #[derive(schemars::JsonSchema, serde::Deserialize)]
//! struct Store {
//!     name: String,
//!     #[schemars(schema_with = "postroom::schema::bin")]
//!     content: serde_bytes::ByteBuf,
//! }
//! ```

use schemars::{Schema, SchemaGenerator, json_schema};

/// Bytes: MessagePack's `bin`. On the command line they are written as a string, or as `{"$bin": BASE64}`.
pub fn bin(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "contentEncoding": "base64", "description": "bytes (MessagePack bin)" })
}

/// Any value at all.
pub fn any(_: &mut SchemaGenerator) -> Schema {
    json_schema!(true)
}
