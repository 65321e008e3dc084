//! What a domain is made of, from XML and to XML.
//!
//! Of libvirt's domain XML this is the part that every domain has: name, UUID, memory, processors, the kind of guest.
//! What is not known is dropped, as libvirt drops elements that it does not know; devices are among it.

use std::fmt::Write;
use std::time::Duration;

use roxmltree::{Document, Node, ParsingOptions};

use super::fault::{Fault, Kind, Origin};
use super::memory;
use super::uuid::Uuid;

/// The namespace of what this daemon keeps in a domain's metadata.
const NAMESPACE: &str = "urn:postroom:made-up";

/// So many nodes a definition may have; libvirt's own have a few hundred.
const MAX_NODES: u32 = 100_000;

/// The longest time that a made-up machine may take to start.
const MAX_BOOT: Duration = Duration::from_secs(3600);

/// The definition of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The kind of hypervisor: `test`, `kvm`, whatever the client wrote.
    pub kind: String,
    pub name: String,
    pub uuid: Uuid,
    pub title: Option<String>,
    /// In KiB.
    pub memory: u64,
    /// In KiB, at most `memory`.
    pub current_memory: u64,
    pub vcpus: u16,
    pub arch: String,
    pub os_type: String,
    /// How long this made-up machine takes to start, from `<boot xmlns="urn:postroom:made-up" ms="…"/>` in its
    /// metadata.
    pub boot: Duration,
}

impl Definition {
    /// Reads domain XML.
    pub fn parse(xml: &str) -> Result<Self, Fault> {
        // Without document types there are no entities that could expand to much more than what was sent.
        let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        let document = Document::parse_with_options(xml, options).map_err(|error| {
            let text = format!("(domain_definition):{}: {error}", error.pos().row);
            Fault::new(Kind::XmlDetail, Origin::Domains, text)
        })?;
        let domain = document.root_element();
        if domain.tag_name().name() != "domain" {
            let found = domain.tag_name().name();
            return Err(Fault::xml(format!("expecting root element of 'domain', not '{found}'")));
        }
        let missing = |what: &str| Fault::new(Kind::Internal, Origin::Domains, what);
        let kind = domain.attribute("type").ok_or_else(|| missing("missing domain type attribute"))?;
        let name = text(domain, "name").filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Fault::new(Kind::NoName, Origin::Domains, "missing name information"))?;
        if name.contains('/') {
            return Err(Fault::xml(format!("name {name} cannot contain '/'")));
        }
        let uuid = text(domain, "uuid").map_or_else(|| Ok(Uuid::random()), Uuid::parse)?;
        let memory = amount(domain, "memory")?.filter(|kib| *kib > 0);
        let memory = memory
            .ok_or_else(|| Fault::xml("Memory size must be specified via <memory> or in the <numa> configuration"))?;
        // libvirt, too, takes more than there is for all there is.
        let current_memory = amount(domain, "currentMemory")?.unwrap_or(memory).min(memory);
        let vcpus = text(domain, "vcpu").map_or(Ok(1), str::parse);
        let vcpus = vcpus.map_err(|_| Fault::xml("maximum vcpus count must be an integer"))?;
        if vcpus == 0 {
            return Err(Fault::xml("invalid maximum number of vCPUs '0'"));
        }
        let os_type = child(domain, "os").and_then(|os| child(os, "type"));
        let os_type = os_type.ok_or_else(|| Fault::xml("an os <type> must be specified"))?;
        Ok(Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            uuid,
            title: text(domain, "title").map(str::to_owned),
            memory,
            current_memory,
            vcpus,
            arch: os_type.attribute("arch").unwrap_or(std::env::consts::ARCH).to_owned(),
            os_type: os_type.text().unwrap_or("hvm").trim().to_owned(),
            boot: boot(domain)?,
        })
    }

    /// Writes it in libvirt's form; with the number that the domain has while it runs.
    pub fn to_xml(&self, id: Option<i32>) -> String {
        let mut xml = String::new();
        // Writing to a string does not fail.
        let _ = self.write(id, &mut xml);
        xml
    }

    fn write(&self, id: Option<i32>, xml: &mut String) -> std::fmt::Result {
        write!(xml, "<domain type='{}'", escape(&self.kind))?;
        if let Some(id) = id {
            write!(xml, " id='{id}'")?;
        }
        writeln!(xml, ">")?;
        writeln!(xml, "  <name>{}</name>", escape(&self.name))?;
        writeln!(xml, "  <uuid>{}</uuid>", self.uuid)?;
        if let Some(title) = &self.title {
            writeln!(xml, "  <title>{}</title>", escape(title))?;
        }
        if !self.boot.is_zero() {
            writeln!(xml, "  <metadata>")?;
            writeln!(xml, "    <boot xmlns=\"{NAMESPACE}\" ms=\"{}\"/>", self.boot.as_millis())?;
            writeln!(xml, "  </metadata>")?;
        }
        writeln!(xml, "  <memory unit='KiB'>{}</memory>", self.memory)?;
        writeln!(xml, "  <currentMemory unit='KiB'>{}</currentMemory>", self.current_memory)?;
        writeln!(xml, "  <vcpu placement='static'>{}</vcpu>", self.vcpus)?;
        writeln!(xml, "  <os>")?;
        writeln!(xml, "    <type arch='{}'>{}</type>", escape(&self.arch), escape(&self.os_type))?;
        writeln!(xml, "    <boot dev='hd'/>")?;
        writeln!(xml, "  </os>")?;
        writeln!(xml, "  <clock offset='utc'/>")?;
        writeln!(xml, "  <on_poweroff>destroy</on_poweroff>")?;
        writeln!(xml, "  <on_reboot>restart</on_reboot>")?;
        writeln!(xml, "  <on_crash>destroy</on_crash>")?;
        writeln!(xml, "  <devices>\n  </devices>\n</domain>")
    }
}

fn child<'a>(of: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    of.children().find(|node| node.tag_name().name() == name)
}

fn text<'a>(of: Node<'a, 'a>, name: &str) -> Option<&'a str> {
    child(of, name).map(|node| node.text().unwrap_or("").trim())
}

fn amount(of: Node<'_, '_>, name: &str) -> Result<Option<u64>, Fault> {
    let node = of.children().find(|node| node.tag_name().name() == name);
    node.map(|node| memory::kib(node.text().unwrap_or(""), node.attribute("unit"), &format!("./{name}[1]"))).transpose()
}

fn boot(domain: Node<'_, '_>) -> Result<Duration, Fault> {
    let Some(boot) = domain.descendants().find(|node| node.has_tag_name((NAMESPACE, "boot"))) else {
        return Ok(Duration::ZERO);
    };
    let ms = boot.attribute("ms").unwrap_or("");
    let time = ms.parse().ok().map(Duration::from_millis).filter(|time| *time <= MAX_BOOT);
    time.ok_or_else(|| {
        let max = MAX_BOOT.as_millis();
        Fault::xml(format!("Invalid value '{ms}' for attribute 'ms' of <boot>: it is a number of at most {max}"))
    })
}

/// Replaces what has a meaning in XML, in text and in attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&apos;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "<domain type='test'>
  <name>web</name>
  <uuid>8f4c1f5e-1111-2222-3333-444455556666</uuid>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  <os><type arch='i686'>hvm</type></os>
</domain>";

    /// As the test driver of libvirt 9.0 prints it.
    const DUMPED: &str = "<domain type='test' id='3'>
  <name>web</name>
  <uuid>8f4c1f5e-1111-2222-3333-444455556666</uuid>
  <memory unit='KiB'>524288</memory>
  <currentMemory unit='KiB'>524288</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <os>
    <type arch='i686'>hvm</type>
    <boot dev='hd'/>
  </os>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
  </devices>
</domain>
";

    fn fault(xml: &str) -> String {
        Definition::parse(xml).unwrap_err().message
    }

    #[test]
    fn it_is_written_as_libvirt_writes_it() {
        assert_eq!(Definition::parse(WEB).unwrap().to_xml(Some(3)), DUMPED);
    }

    #[test]
    fn what_was_written_is_read_back_the_same() {
        let mut definition = Definition::parse(WEB).unwrap();
        definition.name = "<&'\">".to_owned();
        definition.title = Some("a & b".to_owned());
        definition.boot = Duration::from_millis(250);
        definition.current_memory = 1000;
        assert_eq!(Definition::parse(&definition.to_xml(None)).unwrap(), definition);
    }

    #[test]
    fn what_is_missing_has_defaults_where_libvirt_has_them() {
        let small = "<domain type='kvm'><name>a</name><memory>1024</memory><os><type/></os></domain>";
        let definition = Definition::parse(small).unwrap();
        assert_eq!((definition.memory, definition.current_memory, definition.vcpus), (1024, 1024, 1));
        assert_eq!((&*definition.os_type, definition.boot), ("hvm", Duration::ZERO));
        assert_ne!(definition.uuid, Definition::parse(small).unwrap().uuid);
    }

    #[test]
    fn what_is_wrong_is_told_in_libvirts_words() {
        let with = |old: &str, new: &str| {
            assert!(WEB.contains(old), "{old}");
            fault(&WEB.replace(old, new))
        };
        assert_eq!(fault("<network/>"), "XML error: expecting root element of 'domain', not 'network'");
        assert_eq!(with(" type='test'", ""), "internal error: missing domain type attribute");
        assert_eq!(with("<name>web</name>", ""), "missing name information");
        assert_eq!(with("web", " "), "missing name information");
        assert_eq!(with("web", "a/b"), "XML error: name a/b cannot contain '/'");
        assert_eq!(with("8f4c", "xyz"), "internal error: malformed uuid element");
        let no_memory = "XML error: Memory size must be specified via <memory> or in the <numa> configuration";
        assert_eq!(with("<memory unit='MiB'>512</memory>", ""), no_memory);
        assert_eq!(with("512", "abc"), "XML error: Invalid value 'abc' for element or attribute './memory[1]'");
        assert_eq!(with("MiB", "furlong"), "invalid argument: unknown suffix 'furlong'");
        assert_eq!(with("<vcpu>2", "<vcpu>x"), "XML error: maximum vcpus count must be an integer");
        assert_eq!(with("<vcpu>2", "<vcpu>0"), "XML error: invalid maximum number of vCPUs '0'");
        assert_eq!(with("<os><type arch='i686'>hvm</type></os>", ""), "XML error: an os <type> must be specified");
        let boot = format!("<metadata><boot xmlns='{NAMESPACE}' ms='x'/></metadata></domain>");
        assert!(with("</domain>", &boot).starts_with("XML error: Invalid value 'x' for attribute 'ms'"));
    }

    #[test]
    fn what_is_no_xml_is_told_with_its_line() {
        assert!(fault("<domain type='test'>\n<name>web</name>\n").starts_with("(domain_definition):"));
        assert!(fault("garbage").starts_with("(domain_definition):1: "));
        assert!(fault("").starts_with("(domain_definition):1: "));
        let deep = "<a>".repeat(200_000);
        assert!(fault(&deep).starts_with("(domain_definition):1: "));
        assert!(fault("<!DOCTYPE d [<!ENTITY e 'x'>]><domain/>").starts_with("(domain_definition):"));
    }
}
