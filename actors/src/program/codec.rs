//! How the payloads of a program are encoded: its own choice, which its handlers do not notice.

/// How arguments, results and errors of a program travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// [MessagePack](https://msgpack.org), which any client can read without knowing the types.
    #[default]
    MessagePack,
    /// XDR (RFC 4506), as libvirt's clients and tools speak it. An error is libvirt's `virNetMessageError`;
    /// [`libvirt::error`](postroom_protocol::libvirt::error) makes one with libvirt's own numbers. Which Rust type is
    /// which in XDR is told in [`xdr`](postroom_protocol::xdr).
    Xdr,
}

impl Codec {
    /// `messagepack` or `xdr`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MessagePack => "messagepack",
            Self::Xdr => "xdr",
        }
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
