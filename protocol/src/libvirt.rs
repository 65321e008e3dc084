//! What libvirt's clients expect of an error reply: `virNetMessageError`, as XDR.
//!
//! The service writes it where a program's codec is XDR; handlers of such programs say by [`error`] how libvirt numbers
//! their own errors. Nothing here decides which codec a program has.
//!
//! | code of the error | code | domain | message |
//! |---|---|---|---|
//! | `unknown_program`, `unknown_version` | 39 RPC | 7 RPC | `Cannot find program 536903814 version 2`, as libvirt says it |
//! | `unknown_procedure` | 39 RPC | 7 RPC | `unknown procedure: 443`, by which clients find out what a service can do |
//! | `unauthenticated`, `protocol`, `too_large`, timeouts | 39 RPC | 7 RPC | |
//! | `invalid_arguments` | 8 INVALID_ARG | 7 RPC | |
//! | `denied` | 88 ACCESS_DENIED | 7 RPC | |
//! | `deadline_exceeded` | 68 OPERATION_TIMEOUT | 7 RPC | |
//! | `cancelled` | 78 OPERATION_ABORTED | 7 RPC | |
//! | `overloaded`, `shutting_down` | 87 RESOURCE_BUSY | 7 RPC | |
//! | `poisoned` | 55 OPERATION_INVALID | 7 RPC | |
//! | `unsupported` | 3 NO_SUPPORT | 7 RPC | |
//! | `internal` | 1 INTERNAL_ERROR | 7 RPC | |
//! | `failed`, and codes of handlers' own | 9 OPERATION_FAILED, or what [`error`] says | 0 NONE, or what [`error`] says | |
//!
//! In every case `level` is 2 (error), `str1` is the code of the error as text, and what remains is absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::error::Error;
use crate::header::{Header, Status};
use crate::packet;
use crate::xdr::{self, Fixed};

/// The longest string that libvirt's clients take in an error, in bytes.
const MAX_STRING: usize = 4 * 1024 * 1024;

/// The key of an error's details under which a handler's own numbers stand.
const KEY: &str = "libvirt";

/// `VIR_ERR_ERROR`.
const LEVEL: i32 = 2;

/// What libvirt's clients call programs by: `remote`, `qemu`, `lxc` and `admin`.
const PROGRAMS: [u32; 4] = [0x2000_8086, 0x2000_8087, 0x0006_8000, 0x0690_0690];

/// Whether a program of this number is one of libvirt's own, so that who calls it reads XDR, whether it is there or not.
#[must_use]
pub fn is_own_program(program: u32) -> bool {
    PROGRAMS.contains(&program)
}

/// The kind of an error: `virErrorNumber`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorCode(
    /// The number.
    pub i32,
);

/// The part of libvirt that an error comes from: `virErrorDomain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorDomain(
    /// The number.
    pub i32,
);

macro_rules! numbers {
    ($type:ident: $($(#[doc = $doc:literal])+ $name:ident = $number:literal;)+) => {
        impl $type {
            $($(#[doc = $doc])+ pub const $name: Self = Self($number);)+
        }
    };
}

numbers! {
    ErrorCode:
    /// `VIR_ERR_INTERNAL_ERROR`: the service is at fault.
    INTERNAL_ERROR = 1;
    /// `VIR_ERR_NO_SUPPORT`: the service does not do this.
    NO_SUPPORT = 3;
    /// `VIR_ERR_INVALID_ARG`: an argument is wrong.
    INVALID_ARG = 8;
    /// `VIR_ERR_OPERATION_FAILED`: it was tried, and failed.
    OPERATION_FAILED = 9;
    /// `VIR_ERR_OPERATION_DENIED`: forbidden on a connection that only reads.
    OPERATION_DENIED = 29;
    /// `VIR_ERR_SYSTEM_ERROR`: a system call failed.
    SYSTEM_ERROR = 38;
    /// `VIR_ERR_RPC`: the call itself was wrong.
    RPC = 39;
    /// `VIR_ERR_NO_DOMAIN`: there is no such domain.
    NO_DOMAIN = 42;
    /// `VIR_ERR_NO_NETWORK`: there is no such network.
    NO_NETWORK = 43;
    /// `VIR_ERR_AUTH_FAILED`: the client is not who it says it is.
    AUTH_FAILED = 45;
    /// `VIR_ERR_NO_STORAGE_POOL`: there is no such storage pool.
    NO_STORAGE_POOL = 49;
    /// `VIR_ERR_NO_STORAGE_VOL`: there is no such storage volume.
    NO_STORAGE_VOL = 50;
    /// `VIR_ERR_OPERATION_INVALID`: not applicable in this state.
    OPERATION_INVALID = 55;
    /// `VIR_ERR_CONFIG_UNSUPPORTED`: the configuration asks for what is not supported.
    CONFIG_UNSUPPORTED = 67;
    /// `VIR_ERR_OPERATION_TIMEOUT`: it took too long.
    OPERATION_TIMEOUT = 68;
    /// `VIR_ERR_OPERATION_ABORTED`: it was cancelled.
    OPERATION_ABORTED = 78;
    /// `VIR_ERR_OPERATION_UNSUPPORTED`: the object does not do this.
    OPERATION_UNSUPPORTED = 84;
    /// `VIR_ERR_RESOURCE_BUSY`: in use, or at its limit.
    RESOURCE_BUSY = 87;
    /// `VIR_ERR_ACCESS_DENIED`: the client may not do this.
    ACCESS_DENIED = 88;
}

numbers! {
    ErrorDomain:
    /// `VIR_FROM_NONE`: nowhere in particular.
    NONE = 0;
    /// `VIR_FROM_RPC`: calls themselves.
    RPC = 7;
    /// `VIR_FROM_QEMU`: the driver for QEMU.
    QEMU = 10;
    /// `VIR_FROM_TEST`: the test driver.
    TEST = 12;
    /// `VIR_FROM_REMOTE`: the remote driver.
    REMOTE = 13;
    /// `VIR_FROM_STREAMS`: streams.
    STREAMS = 38;
    /// `VIR_FROM_ADMIN`: administration.
    ADMIN = 62;
}

/// An error of a handler that libvirt's clients get with these numbers.
///
/// To other clients it is an error with the code `failed`, whose details carry the numbers.
pub fn error(code: ErrorCode, domain: ErrorDomain, message: impl Into<String>) -> Error {
    let numbers = [("code", code.0), ("domain", domain.0)];
    Error::failed(message).with_details(BTreeMap::from([(KEY, BTreeMap::from(numbers))]))
}

/// The payload of an error reply, field by field: `virNetMessageError`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteError {
    /// The kind of error.
    pub code: ErrorCode,
    /// Where it comes from.
    pub domain: ErrorDomain,
    /// One sentence for a person.
    pub message: Option<String>,
    /// How bad it is: 2, an error.
    pub level: i32,
    /// The domain that it is about; never sent.
    pub dom: Option<RemoteDomain>,
    /// More about it: here the code that Postroom gives the error.
    pub str1: Option<String>,
    /// More about it; not sent.
    pub str2: Option<String>,
    /// More about it; not sent.
    pub str3: Option<String>,
    /// More about it: -1.
    pub int1: i32,
    /// More about it: -1.
    pub int2: i32,
    /// The network that it is about; never sent.
    pub net: Option<RemoteNetwork>,
}

/// A domain, as an error names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteDomain {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: Fixed<16>,
    /// Its number while it runs, else -1.
    pub id: i32,
}

/// A network, as an error names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteNetwork {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: Fixed<16>,
}

impl RemoteError {
    /// What a client of libvirt's kind is told of this error of the call with this header.
    #[must_use]
    pub fn new(header: &Header, error: &Error) -> Self {
        let (code, domain) = numbers(error);
        let message = match error.code() {
            code if [Code::UNKNOWN_PROGRAM, Code::UNKNOWN_VERSION].contains(code) => {
                format!("Cannot find program {} version {}", header.program, header.version)
            }
            code if *code == Code::UNKNOWN_PROCEDURE => format!("unknown procedure: {}", header.procedure),
            _ => cut(error.message()).to_owned(),
        };
        Self {
            code,
            domain,
            message: Some(message),
            level: LEVEL,
            dom: None,
            str1: Some(cut(error.code().as_str()).to_owned()),
            str2: None,
            str3: None,
            int1: -1,
            int2: -1,
            net: None,
        }
    }

    /// Reads the payload of an error reply.
    ///
    /// # Errors
    ///
    /// When the payload is no such error.
    pub fn decode(payload: &[u8]) -> Result<Self, xdr::XdrError> {
        xdr::decode(payload)
    }
}

/// Appends the error reply to the call with this header, for a client of libvirt's kind: a whole packet.
pub fn encode_reply_error(header: &Header, error: &Error, out: &mut Vec<u8>) {
    let start = packet::begin(&header.reply(Status::Error), out);
    // Strings that were cut, numbers, and nothing else: it always encodes.
    let encoded = xdr::encode(&RemoteError::new(header, error), out);
    debug_assert!(encoded.is_ok(), "an error must encode: {encoded:?}");
    packet::finish(start, out);
}

fn numbers(error: &Error) -> (ErrorCode, ErrorDomain) {
    if let Some(numbers) = error.details().and_then(own_numbers) {
        return numbers;
    }
    let code = match Code::ALL.iter().find(|code| *code == error.code()) {
        None => return (ErrorCode::OPERATION_FAILED, ErrorDomain::NONE),
        Some(code) => match code.as_str() {
            "failed" => return (ErrorCode::OPERATION_FAILED, ErrorDomain::NONE),
            "invalid_arguments" => ErrorCode::INVALID_ARG,
            "denied" => ErrorCode::ACCESS_DENIED,
            "deadline_exceeded" => ErrorCode::OPERATION_TIMEOUT,
            "cancelled" => ErrorCode::OPERATION_ABORTED,
            "overloaded" | "shutting_down" => ErrorCode::RESOURCE_BUSY,
            "poisoned" => ErrorCode::OPERATION_INVALID,
            "unsupported" => ErrorCode::NO_SUPPORT,
            "internal" => ErrorCode::INTERNAL_ERROR,
            _ => ErrorCode::RPC,
        },
    };
    (code, ErrorDomain::RPC)
}

/// What [`error`] left in the details of an error.
fn own_numbers(details: &rmpv::Value) -> Option<(ErrorCode, ErrorDomain)> {
    let number = |name: &str| details[KEY][name].as_i64().and_then(|number| i32::try_from(number).ok());
    Some((ErrorCode(number("code")?), ErrorDomain(number("domain")?)))
}

/// The beginning of `text` that fits a string.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_STRING);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
