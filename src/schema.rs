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

use postroom_actors::Blob;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Bytes: MessagePack's `bin`. In JSON, as on the command line, they are `{"$bin": BASE64}`; as an argument a string
/// stands for its own bytes. For fields that are no [`Blob`], which has this schema by itself.
pub fn bin(generator: &mut SchemaGenerator) -> Schema {
    Blob::json_schema(generator)
}

/// Any value at all.
pub fn any(_: &mut SchemaGenerator) -> Schema {
    json_schema!(true)
}
