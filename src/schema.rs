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

/// Bytes: MessagePack's `bin`. In JSON, as on the command line, they are `{"$bin": BASE64}`; as an argument a string
/// stands for its own bytes.
pub fn bin(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "bytes (MessagePack bin): {\"$bin\": BASE64}, or a string for its bytes in UTF-8",
        "anyOf": [
            {
                "type": "object",
                "properties": { "$bin": { "type": "string", "contentEncoding": "base64" } },
                "required": ["$bin"],
                "additionalProperties": false
            },
            { "type": "string" }
        ]
    })
}

/// Any value at all.
pub fn any(_: &mut SchemaGenerator) -> Schema {
    json_schema!(true)
}
