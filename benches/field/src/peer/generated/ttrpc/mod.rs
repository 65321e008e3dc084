// @generated
#![cfg_attr(rustfmt, rustfmt::skip)]

pub mod echo;
pub mod echo_ttrpc;
