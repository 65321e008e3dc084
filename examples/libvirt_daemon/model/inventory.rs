//! The index of all domains: by UUID, by name, by number.
//!
//! Look-ups are answered from here, without asking the domains: each one leaves a [`Card`] that says what it is, and
//! only the domain itself renews it. Names and UUIDs are given out here, so that no two domains have the same.
//!
//! Bound: [`MAX_DOMAINS`].

use std::collections::HashMap;

use super::definition::Definition;
use super::fault::Fault;
use super::machine::{Machine, State};
use super::uuid::Uuid;

/// So many domains a client of libvirt takes in one list.
pub const MAX_DOMAINS: usize = 16_384;

/// What there is to know of a domain without asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    pub name: String,
    pub uuid: Uuid,
    /// Its number while it runs.
    pub id: Option<i32>,
    pub state: State,
    pub is_persistent: bool,
    pub is_autostarted: bool,
    pub os_type: String,
    pub vcpus: u16,
    /// In KiB.
    pub memory: u64,
}

impl Card {
    /// The card of a domain as it is now.
    pub fn of(machine: &Machine) -> Self {
        let definition = machine.definition();
        Self {
            name: definition.name.clone(),
            uuid: definition.uuid,
            id: machine.id(),
            state: machine.state(),
            is_persistent: machine.is_persistent(),
            is_autostarted: machine.is_autostarted(),
            os_type: definition.os_type.clone(),
            vcpus: definition.vcpus,
            memory: definition.memory,
        }
    }
}

/// All domains, each with a handle of type `H` by which it is reached.
#[derive(Debug)]
pub struct Inventory<H> {
    domains: HashMap<Uuid, (Card, H)>,
    by_name: HashMap<String, Uuid>,
    last_id: i32,
}

impl<H> Default for Inventory<H> {
    fn default() -> Self {
        Self { domains: HashMap::new(), by_name: HashMap::new(), last_id: 0 }
    }
}

impl<H: Clone> Inventory<H> {
    pub fn by_name(&self, name: &str) -> Result<(Card, H), Fault> {
        let uuid = self.by_name.get(name);
        uuid.and_then(|uuid| self.domains.get(uuid))
            .cloned()
            .ok_or_else(|| Fault::no_domain(format!("no domain with matching name '{name}'")))
    }

    pub fn by_id(&self, id: i32) -> Result<(Card, H), Fault> {
        let domain = self.domains.values().find(|(card, _)| card.id == Some(id));
        domain.cloned().ok_or_else(|| Fault::no_domain(format!("no domain with matching id {id}")))
    }

    pub fn by_uuid(&self, uuid: Uuid) -> Result<(Card, H), Fault> {
        let domain = self.domains.get(&uuid);
        domain.cloned().ok_or_else(|| Fault::no_domain(format!("no domain with matching uuid '{uuid}'")))
    }

    /// The domain that a client means: by its UUID, as libvirt does it. The name is for the error.
    pub fn by_reference(&self, uuid: Uuid, name: &str) -> Result<(Card, H), Fault> {
        let domain = self.domains.get(&uuid);
        domain.cloned().ok_or_else(|| Fault::no_domain(format!("no domain with matching uuid '{uuid}' ({name})")))
    }

    /// All cards, in the order of their names.
    pub fn list(&self) -> Vec<Card> {
        let mut cards: Vec<Card> = self.domains.values().map(|(card, _)| card.clone()).collect();
        cards.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        cards
    }

    /// The domain that this definition is of, if it is there already.
    pub fn find(&self, definition: &Definition) -> Result<Option<(Card, H)>, Fault> {
        let Definition { name, uuid, .. } = definition;
        if let Some(domain) = self.domains.get(uuid) {
            let there = &domain.0.name;
            return if there == name {
                Ok(Some(domain.clone()))
            } else {
                Err(Fault::failed(format!("domain '{there}' is already defined with uuid {uuid}")))
            };
        }
        match self.by_name.get(name) {
            Some(uuid) => Err(Fault::failed(format!("domain '{name}' already exists with uuid {uuid}"))),
            None => Ok(None),
        }
    }

    /// Whether there is room for another domain.
    pub fn check_room(&self) -> Result<(), Fault> {
        if self.domains.len() < MAX_DOMAINS {
            return Ok(());
        }
        Err(Fault::failed(format!("there are {MAX_DOMAINS} domains already, which is as many as a list can hold")))
    }

    /// Takes in a domain that [`Self::find`] did not find, where [`Self::check_room`] has found room.
    pub fn insert(&mut self, card: Card, handle: H) {
        self.by_name.insert(card.name.clone(), card.uuid);
        self.domains.insert(card.uuid, (card, handle));
    }

    /// What there is to know of a domain has changed.
    pub fn update(&mut self, card: Card) {
        if let Some(domain) = self.domains.get_mut(&card.uuid) {
            domain.0 = card;
        }
    }

    pub fn remove(&mut self, uuid: Uuid) {
        if let Some((card, _)) = self.domains.remove(&uuid) {
            self.by_name.remove(&card.name);
        }
    }

    /// A number for a domain that starts. After two thousand million it begins anew.
    pub fn next_id(&mut self) -> i32 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = Some(self.last_id);
            if self.domains.values().all(|(card, _)| card.id != id) {
                return self.last_id;
            }
        }
    }
}

/// Which domains a list has, by `virConnectListAllDomainsFlags`. Of each group of flags none means all.
pub fn is_listed(card: &Card, flags: u32) -> bool {
    let is_paused = card.state.state == State::PAUSED_BY_USER.state;
    let is_running = card.state.is_active() && !is_paused;
    let groups = [
        // Active, inactive.
        [(1 << 0, card.id.is_some()), (1 << 1, card.id.is_none()), (0, false), (0, false)],
        // Persistent, transient.
        [(1 << 2, card.is_persistent), (1 << 3, !card.is_persistent), (0, false), (0, false)],
        // Running, paused, shut off, anything else.
        [(1 << 4, is_running), (1 << 5, is_paused), (1 << 6, !card.state.is_active()), (1 << 7, false)],
        // With and without a managed save, of which there is none.
        [(1 << 8, false), (1 << 9, true), (0, false), (0, false)],
        // Started with the host or not.
        [(1 << 10, card.is_autostarted), (1 << 11, !card.is_autostarted), (0, false), (0, false)],
        // With and without snapshots, of which there are none.
        [(1 << 12, false), (1 << 13, true), (0, false), (0, false)],
        // With and without checkpoints, likewise.
        [(1 << 14, false), (1 << 15, true), (0, false), (0, false)],
    ];
    groups.iter().all(|group| {
        let asked = group.iter().fold(0, |asked, (flag, _)| asked | flag) & flags;
        asked == 0 || group.iter().any(|(flag, is_so)| flags & flag != 0 && *is_so)
    })
}

/// All flags that [`is_listed`] knows.
pub const LIST_FLAGS: u32 = (1 << 16) - 1;

#[cfg(test)]
mod tests {
    use super::super::machine::Operation;
    use super::*;

    fn machine(name: &str, digit: char) -> Machine {
        let uuid = digit.to_string().repeat(32);
        let xml = format!(
            "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>1024</memory>\
             <os><type>hvm</type></os></domain>"
        );
        Machine::defined(Definition::parse(&xml).unwrap())
    }

    fn inventory() -> Inventory<char> {
        let mut inventory = Inventory::default();
        for (name, digit) in [("web", 'a'), ("db", 'b')] {
            inventory.insert(Card::of(&machine(name, digit)), digit);
        }
        inventory
    }

    fn message<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
        result.unwrap_err().message
    }

    #[test]
    fn a_domain_is_found_by_name_uuid_and_number() {
        let mut inventory = inventory();
        let mut web = machine("web", 'a');
        web.perform(Operation::Start, || inventory.next_id()).unwrap();
        inventory.update(Card::of(&web));
        let uuid = web.definition().uuid;
        assert_eq!(inventory.by_name("web").unwrap().1, 'a');
        assert_eq!(inventory.by_uuid(uuid).unwrap().1, 'a');
        assert_eq!(inventory.by_id(1).unwrap().1, 'a');
        inventory.remove(uuid);
        assert_eq!(message(inventory.by_name("web")), "Domain not found: no domain with matching name 'web'");
        assert_eq!(message(inventory.by_id(1)), "Domain not found: no domain with matching id 1");
        let text = format!("Domain not found: no domain with matching uuid '{uuid}'");
        assert_eq!(message(inventory.by_uuid(uuid)), text);
        assert_eq!(message(inventory.by_reference(uuid, "web")), format!("{text} (web)"));
        assert_eq!(inventory.list().len(), 1);
    }

    #[test]
    fn no_two_domains_have_a_name_or_a_uuid_in_common() {
        let inventory = inventory();
        let find = |name, digit| inventory.find(machine(name, digit).definition()).map(|found| found.map(|(_, h)| h));
        assert_eq!(find("web", 'a'), Ok(Some('a')));
        assert_eq!(find("mail", 'c'), Ok(None));
        let uuid = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
        assert_eq!(
            message(find("web", 'c')),
            format!("operation failed: domain 'web' already exists with uuid {uuid}")
        );
        let text = format!("operation failed: domain 'web' is already defined with uuid {uuid}");
        assert_eq!(message(find("mail", 'a')), text);
    }

    #[test]
    fn numbers_are_not_given_out_twice() {
        let mut inventory = inventory();
        let mut web = machine("web", 'a');
        web.perform(Operation::Start, || inventory.next_id()).unwrap();
        inventory.update(Card::of(&web));
        assert_eq!(inventory.next_id(), 2);
        inventory.last_id = i32::MAX;
        // 1 is in use.
        assert_eq!(inventory.next_id(), 2);
    }

    #[test]
    fn there_are_as_many_domains_as_a_list_holds() {
        let mut inventory = Inventory::default();
        let mut card = Card::of(&machine("web", 'a'));
        for number in 0..MAX_DOMAINS {
            card.name = number.to_string();
            card.uuid = Uuid((number as u128).to_be_bytes());
            inventory.check_room().unwrap();
            inventory.insert(card.clone(), ());
        }
        assert!(message(inventory.check_room()).contains("16384 domains"));
    }

    #[test]
    fn lists_have_what_their_flags_ask_for() {
        let mut web = machine("web", 'a');
        let off = Card::of(&web);
        web.perform(Operation::Start, || 1).unwrap();
        let running = Card::of(&web);
        web.perform(Operation::Suspend, || 2).unwrap();
        web.perform(Operation::Undefine, || 2).unwrap();
        let paused = Card::of(&web);
        let listed = |flags| [&off, &running, &paused].map(|card| is_listed(card, flags));
        assert_eq!(listed(0), [true; 3]);
        assert_eq!(listed(3), [true; 3]);
        assert_eq!(listed(1), [false, true, true]);
        assert_eq!(listed(2), [true, false, false]);
        assert_eq!(listed(1 << 3), [false, false, true]);
        assert_eq!(listed(1 << 4), [false, true, false]);
        assert_eq!(listed(1 << 5 | 1 << 6), [true, false, true]);
        assert_eq!(listed(1 | 1 << 2), [false, true, false]);
        assert_eq!(listed(1 << 12), [false; 3]);
        assert_eq!(listed(1 << 9 | 1 << 11 | 1 << 13 | 1 << 15), [true; 3]);
    }
}
