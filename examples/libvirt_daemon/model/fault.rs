//! What goes wrong, as libvirt numbers and words it.
//!
//! libvirt's clients act on the number (a missing domain is another thing than one that is not running) and print the
//! message as it is, so both have to be libvirt's. The words in front of the colon belong to the number.

/// The kind of a fault: the part of `virErrorNumber` that is used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `VIR_ERR_INTERNAL_ERROR`.
    Internal = 1,
    /// `VIR_ERR_INVALID_ARG`.
    InvalidArgument = 8,
    /// `VIR_ERR_OPERATION_FAILED`.
    OperationFailed = 9,
    /// `VIR_ERR_NO_NAME`.
    NoName = 21,
    /// `VIR_ERR_XML_ERROR`: the XML does not say what it has to.
    Xml = 27,
    /// `VIR_ERR_XML_DETAIL`: it is no XML.
    XmlDetail = 35,
    /// `VIR_ERR_NO_DOMAIN`.
    NoDomain = 42,
    /// `VIR_ERR_OPERATION_INVALID`.
    OperationInvalid = 55,
    /// `VIR_ERR_OPERATION_TIMEOUT`.
    OperationTimeout = 68,
}

/// Who found it: the part of `virErrorDomain` that is used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `VIR_FROM_NONE`.
    Nowhere = 0,
    /// `VIR_FROM_TEST`: the driver. There is no number for a driver of one's own, so it is that of the test driver.
    Driver = 12,
    /// `VIR_FROM_DOMAIN`: whoever reads and keeps the definitions of domains.
    Domains = 20,
}

/// A fault that a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    pub origin: Origin,
    pub message: String,
}

impl Fault {
    pub fn new(kind: Kind, origin: Origin, text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        let message = match kind {
            Kind::Internal => format!("internal error: {text}"),
            Kind::InvalidArgument => format!("invalid argument: {text}"),
            Kind::OperationFailed => format!("operation failed: {text}"),
            Kind::Xml => format!("XML error: {text}"),
            Kind::NoDomain => format!("Domain not found: {text}"),
            Kind::OperationInvalid => format!("Requested operation is not valid: {text}"),
            Kind::OperationTimeout => format!("Timed out during operation: {text}"),
            Kind::NoName | Kind::XmlDetail => text.to_owned(),
        };
        Self { kind, origin, message }
    }

    /// The driver cannot do this to the domain in its present state.
    pub fn internal(text: impl AsRef<str>) -> Self {
        Self::new(Kind::Internal, Origin::Driver, text)
    }

    /// There is no such domain.
    pub fn no_domain(text: impl AsRef<str>) -> Self {
        Self::new(Kind::NoDomain, Origin::Driver, text)
    }

    /// The definition does not say what it has to.
    pub fn xml(text: impl AsRef<str>) -> Self {
        Self::new(Kind::Xml, Origin::Domains, text)
    }

    /// The domain's state, or that of another, does not allow it.
    pub fn invalid(text: impl AsRef<str>) -> Self {
        Self::new(Kind::OperationInvalid, Origin::Domains, text)
    }

    /// It was tried, and failed.
    pub fn failed(text: impl AsRef<str>) -> Self {
        Self::new(Kind::OperationFailed, Origin::Domains, text)
    }

    /// Others want something of the domain first, and it would take too long.
    pub fn timed_out(text: impl AsRef<str>) -> Self {
        Self::new(Kind::OperationTimeout, Origin::Driver, text)
    }

    /// A bit of `flags` is not among those that the procedure knows.
    pub fn unsupported_flags(flags: u32, procedure: &str) -> Self {
        let message = format!("unsupported flags ({flags:#x}) in function {procedure}");
        Self { kind: Kind::InvalidArgument, origin: Origin::Driver, message }
    }
}

/// Refuses flags that a procedure does not know: who sets one counts on its effect.
pub fn check_flags(flags: u32, known: u32, procedure: &str) -> Result<(), Fault> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(Fault::unsupported_flags(unknown, procedure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_begins_with_the_words_that_libvirt_has_for_its_number() {
        let fault = Fault::invalid("domain is not running");
        assert_eq!(fault.message, "Requested operation is not valid: domain is not running");
        assert_eq!((fault.kind as i32, fault.origin as i32), (55, 20));
        assert_eq!(Fault::internal("x").message, "internal error: x");
        assert_eq!(Fault::no_domain("x").message, "Domain not found: x");
        assert_eq!(Fault::xml("x").message, "XML error: x");
    }

    #[test]
    fn flags_that_nobody_knows_are_named() {
        assert_eq!(check_flags(3, 3, "f"), Ok(()));
        let fault = check_flags(5, 1, "DomainCreateWithFlags").unwrap_err();
        assert_eq!(fault.message, "unsupported flags (0x4) in function DomainCreateWithFlags");
    }
}
