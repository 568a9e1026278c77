//! How a session's writer gets round its consumers: where each stands between two visits, and how it ends.

use std::sync::Arc;

use wherry_engine::Consumer;

/// Where a consumer stands between two visits of the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Asked its queue for a notice.
    Armed,
    /// Is in the connection's list of those to visit.
    Listed,
    /// Its channel may have no more deliveries; listed again when it may.
    Parked,
    /// Has as many unsettled deliveries as it may; listed again when one is settled.
    Full,
}

impl Turn {
    /// Of a consumer that found less than it wanted: what must happen before it is visited again. `Listed` is nothing:
    /// something came meanwhile. `is_lending` says whether deliveries can come back without the client's doing.
    pub fn after_less(
        consumer: &Arc<Consumer>,
        no_ack: bool,
        is_lending: impl FnOnce() -> bool,
    ) -> Turn {
        let prefetch = consumer.prefetch() as usize;
        let full = prefetch != 0 && !no_ack && consumer.unacked() >= prefetch;
        // With a lease room may come without the client's doing, so the engine has to tell.
        if full && !is_lending() {
            Turn::Full
        } else if consumer.arm() {
            Turn::Listed
        } else {
            Turn::Armed
        }
    }
}

/// How a channel or connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client closed it.
    Clean,
    /// An error, or the socket is gone.
    Lost,
}

impl End {
    /// Ends a consumer with it: what is unsettled goes back. Whether that counts as an attempt is the end's kind.
    pub fn cancel(self, consumer: &Consumer) {
        match self {
            End::Clean => consumer.cancel(),
            End::Lost => consumer.cancel_lost(),
        }
    }
}

#[cfg(test)]
mod tests {
    use wherry_engine::{
        Broker, BrokerOptions, ConsumerOptions, NewMessage, Notify, Outcome, QueueOptions,
        VirtualHost,
    };

    use super::*;

    struct Silent;

    impl Notify for Silent {
        fn notify(&self, _: u64) {}
    }

    fn publish(host: &Arc<VirtualHost>) {
        let exchange = host.exchange("").unwrap();
        exchange.publish(&NewMessage::new("q", b"")).unwrap();
    }

    fn consumer(host: &Arc<VirtualHost>, prefetch: u32) -> Arc<Consumer> {
        let (queue, _) = host.declare_queue("q", QueueOptions::default()).unwrap();
        let options = ConsumerOptions {
            prefetch,
            ..ConsumerOptions::default()
        };
        queue.consume(options, Some((Arc::new(Silent), 0))).unwrap()
    }

    #[test]
    fn a_turn_is_what_the_next_visit_waits_for() {
        let broker = Broker::open(BrokerOptions::default()).unwrap();
        let host = broker.virtual_host("/").unwrap();
        let consumer = consumer(&host, 1);
        let lends = |lends: bool| Turn::after_less(&consumer, false, || lends);
        assert_eq!(lends(false), Turn::Armed);
        publish(&host);
        assert_eq!(lends(false), Turn::Listed);
        let mut taken = Vec::new();
        assert_eq!(consumer.take(9, &mut taken), 1);
        assert_eq!(lends(false), Turn::Full);
        assert_ne!(lends(true), Turn::Full, "the engine has to tell");
        let no_ack = Turn::after_less(&consumer, true, || panic!("it has no bound"));
        assert_ne!(no_ack, Turn::Full);
        consumer.settle(taken[0].tag, false, Outcome::Ack).unwrap();
        assert_ne!(lends(false), Turn::Full);
    }
}
