//! JSON on the command line, MessagePack on the wire.
//!
//! What JSON has not is written as an object with one key: bytes as `{"$bin": BASE64}`, an extension as
//! `{"$ext": [TYPE, BASE64]}`. Both ways round they are the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rmpv::Value;
use serde_json::{Map, Number, json};

/// A MessagePack value as JSON.
pub(super) fn from_msgpack(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil => serde_json::Value::Null,
        Value::Boolean(boolean) => (*boolean).into(),
        Value::Integer(integer) => match (integer.as_u64(), integer.as_i64()) {
            (Some(unsigned), _) => unsigned.into(),
            (None, signed) => signed.into(),
        },
        Value::F32(float) => float_to_json(f64::from(*float)),
        Value::F64(float) => float_to_json(*float),
        Value::String(text) => match text.as_str() {
            Some(text) => text.into(),
            None => bin(text.as_bytes()),
        },
        Value::Binary(bytes) => bin(bytes),
        Value::Array(values) => values.iter().map(from_msgpack).collect(),
        Value::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| (key_to_json(key), from_msgpack(value)));
            serde_json::Value::Object(entries.collect::<Map<_, _>>())
        }
        Value::Ext(tag, data) => json!({ "$ext": [tag, STANDARD.encode(data)] }),
    }
}

fn bin(bytes: &[u8]) -> serde_json::Value {
    json!({ "$bin": STANDARD.encode(bytes) })
}

fn float_to_json(float: f64) -> serde_json::Value {
    // JSON has no infinities and no NaN.
    Number::from_f64(float).map_or_else(|| float.to_string().into(), serde_json::Value::Number)
}

/// A key that is no string appears as the JSON text of what it is.
fn key_to_json(key: &Value) -> String {
    match from_msgpack(key) {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A JSON value as MessagePack.
///
/// # Errors
///
/// What is wrong with a `$bin` or an `$ext`.
pub(super) fn to_msgpack(value: &serde_json::Value) -> Result<Value, String> {
    Ok(match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(boolean) => Value::Boolean(*boolean),
        serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(unsigned), _, _) => unsigned.into(),
            (None, Some(signed), _) => signed.into(),
            (None, None, float) => Value::F64(float.ok_or_else(|| format!("{number} is no number of 64 bits"))?),
        },
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Array(values) => Value::Array(values.iter().map(to_msgpack).collect::<Result<_, _>>()?),
        serde_json::Value::Object(entries) => match special(entries)? {
            Some(value) => value,
            None => {
                let entry = |(key, value): (&String, _)| Ok((key.as_str().into(), to_msgpack(value)?));
                Value::Map(entries.iter().map(entry).collect::<Result<_, String>>()?)
            }
        },
    })
}

fn special(entries: &Map<String, serde_json::Value>) -> Result<Option<Value>, String> {
    let mut entries = entries.iter();
    let (Some((key, value)), None) = (entries.next(), entries.next()) else { return Ok(None) };
    let decode = |text: &serde_json::Value| {
        let text = text.as_str().ok_or_else(|| format!("{key} takes base64 as a string, not {text}"))?;
        STANDARD.decode(text).map_err(|error| format!("{key}: {text:?} is no base64: {error}"))
    };
    match key.as_str() {
        "$bin" => Ok(Some(Value::Binary(decode(value)?))),
        "$ext" => {
            let wrong = || format!("$ext takes [TYPE, BASE64] with a type from -128 to 127, not {value}");
            let [tag, data] = value.as_array().map(Vec::as_slice).ok_or_else(wrong)? else { return Err(wrong()) };
            let tag = tag.as_i64().and_then(|tag| i8::try_from(tag).ok()).ok_or_else(wrong)?;
            Ok(Some(Value::Ext(tag, decode(data)?)))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_has_and_what_it_has_not_goes_both_ways() {
        for text in [
            r#"null"#,
            r#"{"a":[1,-1,1.5,true,"x"],"b":{"$bin":"AAEC"}}"#,
            r#"{"$ext":[-1,"AAEC"]}"#,
            r#"18446744073709551615"#,
        ] {
            let json: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(from_msgpack(&to_msgpack(&json).unwrap()).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_base64_is_told() {
        let wrong = json!({ "data": { "$bin": "%" } });
        assert!(to_msgpack(&wrong).unwrap_err().contains("is no base64"));
        assert!(to_msgpack(&json!({ "$bin": 5 })).unwrap_err().contains("as a string"));
    }
}
