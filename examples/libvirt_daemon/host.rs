//! The host, which is as made up as its domains: what clients ask of it, in plain values.

/// The name of the driver.
pub const TYPE: &str = "Postroom";

/// The version of the made-up hypervisor, 0.1.0, as libvirt writes it: major, minor and release by thousands.
pub const VERSION: u64 = 1_000;

/// The version of libvirt whose behaviour this service shows: 9.0.0.
pub const LIBVIRT_VERSION: u64 = 9_000_000;

/// What a client that was told no driver takes for its URI.
pub const URI: &str = "test:///default";

/// What a host is made of.
pub struct Node {
    /// In KiB.
    pub memory: u64,
    pub mhz: i32,
    pub nodes: i32,
    pub sockets: i32,
    pub cores: i32,
    pub threads: i32,
}

pub const NODE: Node = Node { memory: 32 * 1024 * 1024, mhz: 2400, nodes: 1, sockets: 1, cores: 8, threads: 2 };

/// The name of the host that the service really runs on.
pub fn name() -> std::io::Result<String> {
    let name = rustix::system::uname();
    name.nodename().to_str().map(str::to_owned).map_err(std::io::Error::other)
}

/// What guests can be run, in libvirt's XML.
pub fn capabilities() -> String {
    let arch = std::env::consts::ARCH;
    format!(
        "<capabilities>

  <host>
    <cpu>
      <arch>{arch}</arch>
    </cpu>
  </host>

  <guest>
    <os_type>hvm</os_type>
    <arch name='{arch}'>
      <wordsize>{}</wordsize>
      <domain type='test'/>
    </arch>
  </guest>

</capabilities>
",
        usize::BITS
    )
}
