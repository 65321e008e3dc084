//! Links libvirt where it is asked for.

fn main() {
    if std::env::var_os("CARGO_FEATURE_LIBVIRT").is_some() {
        println!("cargo:rustc-link-lib=virt");
    }
}
