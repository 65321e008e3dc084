//! A service with state: a stock of items, kept by clerks.
//!
//! It shows what a service of your own usually needs:
//!
//! - a handler actor with state of its own: one [`Clerk`] on each thread that runs its procedures;
//! - state that all of them share, which comes through the factory closure: the [`Stock`];
//! - an error type of its own with codes that clients can tell apart: [`StockError`];
//! - all three classes of procedures: `put` and `take` block, `count` is inline, `wait_for` is async;
//! - two versions of a program side by side: clients of version 1 put and take one item at a time.
//!
//! ```text
//! cargo run --example stateful -- --listen unix:/tmp/stock
//! python3 examples/client.py --to unix:/tmp/stock stock.put '{"item": "bolt", "count": 3}'
//! python3 examples/client.py --to unix:/tmp/stock stock.take '{"item": "bolt", "count": 5}'
//! python3 examples/client.py --to unix:/tmp/stock stock/1.take '{"item": "bolt"}'
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use postroom::{Call, Error, Program, Service};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// The number of the program: four letters of its name.
const STOCK: u32 = 0x7374_6f63;

// What all clerks share.

/// How many there are of each item.
#[derive(Default)]
struct Stock {
    items: Mutex<HashMap<String, u64>>,
    /// Told when something was put in.
    arrived: Notify,
}

impl Stock {
    /// Locked for moments only: `count` runs inline, on a thread that serves many clients.
    fn items(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        // A handler that panicked while it held the lock left the map whole: no change here has two steps.
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, item: &str) -> u64 {
        self.items().get(item).copied().unwrap_or(0)
    }

    fn put(&self, item: String, count: u64) -> Result<u64, StockError> {
        let mut items = self.items();
        let there = items.entry(item).or_default();
        *there = there.checked_add(count).ok_or(StockError::NoRoom { count })?;
        self.arrived.notify_waiters();
        Ok(*there)
    }

    fn take(&self, item: String, count: u64) -> Result<u64, StockError> {
        let mut items = self.items();
        let there = items.get(&item).copied().unwrap_or(0);
        let left = there.checked_sub(count).ok_or(StockError::TooFew { item: item.clone(), there })?;
        items.insert(item, left);
        Ok(left)
    }
}

// What goes wrong. `impl From<…> for Error` is all that an error type of your own needs to be a handler's error.

/// Why a clerk cannot help.
enum StockError {
    TooFew { item: String, there: u64 },
    NoRoom { count: u64 },
}

impl From<StockError> for Error {
    fn from(error: StockError) -> Self {
        match error {
            // A code is short and stable, for programs; the message is for people; details are for programs again.
            StockError::TooFew { item, there } => {
                let details = HashMap::from([("there", there)]);
                Error::new("too_few", format!("there are only {there} of {item:?}")).with_details(details)
            }
            StockError::NoRoom { count } => Error::new("no_room", format!("there is no room for {count} more")),
        }
    }
}

// The messages: the arguments of a procedure, and by `rtype` what it returns. Fields have their names on the wire.

#[derive(Deserialize, Message)]
#[rtype(result = "Result<Receipt, StockError>")]
struct Put {
    item: String,
    count: u64,
}

#[derive(Deserialize, Message)]
#[rtype(result = "Result<Receipt, StockError>")]
struct Take {
    item: String,
    count: u64,
}

#[derive(Deserialize, Message)]
#[rtype(result = "Result<Count, StockError>")]
struct GetCount {
    item: String,
}

/// Waits until there are so many, but not for longer than `ms`.
#[derive(Deserialize, Message)]
#[rtype(result = "Result<Count, StockError>")]
struct WaitFor {
    item: String,
    count: u64,
    ms: u32,
}

#[derive(Serialize)]
struct Receipt {
    /// How many are left.
    count: u64,
    /// How many receipts this clerk has written: each worker has a clerk of its own, who counts for itself.
    number: u64,
}

#[derive(Serialize)]
struct Count {
    count: u64,
}

// The handler actor. After a panic it is thrown away, and the factory in `main` makes a fresh one.

struct Clerk {
    stock: Arc<Stock>,
    receipts: u64,
}

impl Clerk {
    fn new(stock: Arc<Stock>) -> Self {
        Self { stock, receipts: 0 }
    }

    fn receipt(&mut self, count: u64) -> Receipt {
        self.receipts += 1;
        Receipt { count, number: self.receipts }
    }
}

impl Actor for Clerk {
    type Context = Context<Self>;
}

impl Handler<Call<Put>> for Clerk {
    type Result = Result<Receipt, StockError>;

    fn handle(&mut self, call: Call<Put>, _: &mut Self::Context) -> Self::Result {
        // Who calls is known: over a Unix socket the kernel vouches for it.
        log::info!("user {:?} puts {} of {:?}", call.peer().uid(), call.args.count, call.args.item);
        let Put { item, count } = call.args;
        let count = self.stock.put(item, count)?;
        Ok(self.receipt(count))
    }
}

impl Handler<Call<Take>> for Clerk {
    type Result = Result<Receipt, StockError>;

    fn handle(&mut self, call: Call<Take>, _: &mut Self::Context) -> Self::Result {
        let Take { item, count } = call.args;
        let count = self.stock.take(item, count)?;
        Ok(self.receipt(count))
    }
}

/// Inline: it only touches memory, for less time than a hop to another thread would take.
impl Handler<Call<GetCount>> for Clerk {
    type Result = Result<Count, StockError>;

    fn handle(&mut self, call: Call<GetCount>, _: &mut Self::Context) -> Self::Result {
        Ok(Count { count: self.stock.count(&call.args.item) })
    }
}

/// Async: thousands of such calls wait at once, and no thread waits with them.
impl Handler<Call<WaitFor>> for Clerk {
    type Result = ResponseFuture<Result<Count, StockError>>;

    fn handle(&mut self, call: Call<WaitFor>, _: &mut Self::Context) -> Self::Result {
        // The future must own what it needs: it outlives this borrow of the clerk.
        let stock = self.stock.clone();
        let WaitFor { item, count, ms } = call.args;
        Box::pin(async move {
            let enough = async {
                loop {
                    let mut arrived = std::pin::pin!(stock.arrived.notified());
                    // From here on nothing that arrives is missed, also between the look and the wait.
                    arrived.as_mut().enable();
                    if stock.count(&item) >= count {
                        return;
                    }
                    arrived.await;
                }
            };
            let waited = tokio::time::timeout(Duration::from_millis(ms.into()), enough).await;
            let there = stock.count(&item);
            waited.map(|()| Count { count: there }).map_err(|_| StockError::TooFew { item, there })
        })
    }
}

// Version 1, as it was before `count` came: kept for the clients that know it.

/// The handler of version 1: the same stock, other arguments and results.
struct FirstClerk(Arc<Stock>);

impl Actor for FirstClerk {
    type Context = Context<Self>;
}

#[derive(Deserialize, Message)]
#[rtype(result = "Result<Count, StockError>")]
struct PutOne {
    item: String,
}

#[derive(Deserialize, Message)]
#[rtype(result = "Result<Count, StockError>")]
struct TakeOne {
    item: String,
}

impl Handler<Call<PutOne>> for FirstClerk {
    type Result = Result<Count, StockError>;

    fn handle(&mut self, call: Call<PutOne>, _: &mut Self::Context) -> Self::Result {
        Ok(Count { count: self.0.put(call.args.item, 1)? })
    }
}

impl Handler<Call<TakeOne>> for FirstClerk {
    type Result = Result<Count, StockError>;

    fn handle(&mut self, call: Call<TakeOne>, _: &mut Self::Context) -> Self::Result {
        Ok(Count { count: self.0.take(call.args.item, 1)? })
    }
}

fn main() -> postroom::Result<()> {
    let stock = Arc::new(Stock::default());
    let for_first = stock.clone();
    let first = Program::new("stock", STOCK, 1)
        .handler(move || FirstClerk(for_first.clone()))
        .procedure::<PutOne>(1, "put")
        .procedure::<TakeOne>(2, "take");
    // The closure makes a clerk for each thread that needs one; what it has captured, they share.
    let second = Program::new("stock", STOCK, 2)
        .handler(move || Clerk::new(stock.clone()))
        .procedure::<Put>(1, "put")
        .procedure::<Take>(2, "take")
        .inline::<GetCount>(3, "count")
        .asynchronous::<WaitFor>(4, "wait_for");
    Service::from_args()?.name("stock", env!("CARGO_PKG_VERSION")).program(first).program(second).run()
}
