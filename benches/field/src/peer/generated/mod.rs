//! What the compilers of tonic, ttrpc and Cap'n Proto made of `echo.proto` and `echo.capnp`, so that building needs
//! none of them. Made anew with tonic-prost-build 0.14 (`Config::bytes(["."])`), ttrpc-codegen 0.7 (`async_all`,
//! `gen_mod`) and capnpc 0.27 (`default_parent_module(["peer", "generated"])`).
#![allow(warnings, clippy::all)]
#![cfg_attr(rustfmt, rustfmt::skip)]

pub mod echo_capnp;
pub mod grpc;
pub mod ttrpc;
