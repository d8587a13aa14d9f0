//! Reserved concurrency.

use super::ledger::Turn;
use super::registry::{Draft, PROVISIONED, RESERVED, Registry, document, reserved_key};
use super::{ControlError, What, validate};
use model::LATEST;
use ports::store::Expect;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A function's reserved concurrency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The function's name.
    pub name: Arc<str>,
    /// The function's unique id.
    pub uid: Arc<str>,
    /// Concurrent invocations that it may have, and that nobody else gets; 0 stops it.
    pub limit: u32,
}

impl Registry {
    /// Reserves concurrency for a function: what it gets at most, and what others leave to it.
    pub async fn put_concurrency(&self, name: &str, limit: i64) -> Result<u32, ControlError> {
        validate::function(name)?;
        let limit = validate::reserved_concurrency(limit)?;
        let reserving = self.reserving.clone().lock_owned().await;
        self.entry(name).await.map_err(|error| self.qualified(error, name, Some(LATEST)))?;
        let provisioned = self.entry(name).await?.head.total_provisioned();
        if limit < provisioned {
            return Err(ControlError::invalid(
                "ReservedConcurrentExecutions",
                format!(
                    "ReservedConcurrentExecutions {limit} should not be lower than function's total provisioned concurrency [{provisioned}]."
                ),
            ));
        }
        let others = self.set_aside(Some(name)).await?;
        let limits = &self.options.limits;
        if u64::from(others) + u64::from(limit) + u64::from(limits.unreserved_concurrency)
            > u64::from(limits.account_concurrency)
        {
            return Err(ControlError::invalid(
                "ReservedConcurrentExecutions",
                format!(
                    "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{}].",
                    limits.unreserved_concurrency
                ),
            ));
        }
        // The index before the head: at a crash in between it names a function whose head says otherwise, and
        // the head is what counts.
        let mut turn = self.turn(name).await;
        turn.hold(reserving);
        turn.hold(self.ledger.pins.pin(&reserved_key(name)).await);
        self.store.put(&reserved_key(name), document(&limit), Expect::Any).await?;
        self.set_reserved(turn, name, Some(limit)).await?;
        Ok(limit)
    }

    /// The reserved concurrency of a function, if it has one.
    pub async fn concurrency(&self, name: &str) -> Result<Option<u32>, ControlError> {
        validate::function(name)?;
        Ok(self.entry(name).await?.head.reserved_concurrency)
    }

    /// Gives a function's reservation back to the account.
    pub async fn delete_concurrency(&self, name: &str) -> Result<(), ControlError> {
        validate::function(name)?;
        let reserving = self.reserving.clone().lock_owned().await;
        let mut turn = self.turn(name).await;
        turn.hold(reserving);
        self.set_reserved(turn, name, None).await?;
        // The sweep takes the index's entry: here it could be that of the next reservation.
        self.left_behind.notify_one();
        Ok(())
    }

    /// All functions with a reservation, for the data plane's start.
    pub async fn reservations(&self) -> Result<Vec<Reservation>, ControlError> {
        let mut names = Vec::new();
        self.scan(RESERVED, |document| {
            names.push(document.key[RESERVED.len()..].to_owned());
            Ok(())
        })
        .await?;
        let mut reservations = Vec::new();
        for name in names {
            if let Some((head, _)) = self.read_head(&name).await?
                && let Some(limit) = head.reserved_concurrency
            {
                reservations.push(Reservation { name: name.into(), uid: head.uid.into(), limit });
            }
        }
        Ok(reservations)
    }

    /// What is reserved and provisioned of the account's concurrency, by functions other than `except`.
    pub(super) async fn set_aside(&self, except: Option<&str>) -> Result<u32, ControlError> {
        let mut names = BTreeSet::new();
        for prefix in [RESERVED, PROVISIONED] {
            self.scan(prefix, |document| {
                names.insert(document.key[prefix.len()..].to_owned());
                Ok(())
            })
            .await?;
        }
        let mut sum = 0_u32;
        for name in names.iter().filter(|name| Some(name.as_str()) != except) {
            if let Some((head, _)) = self.read_head(name).await? {
                // What is provisioned comes out of the function's reservation, when it has one.
                sum = sum.saturating_add(head.reserved_concurrency.unwrap_or(head.total_provisioned()));
            }
        }
        Ok(sum)
    }

    async fn set_reserved(&self, turn: Turn, name: &str, limit: Option<u32>) -> Result<(), ControlError> {
        let decide = |draft: &mut Draft| {
            draft.head.reserved_concurrency = limit;
            draft.announce.push(What::Reserved(limit));
            Ok(())
        };
        self.change_in_turn(turn, name, decide).await.map(|_| ())
    }
}
