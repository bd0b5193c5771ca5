//! The statements, with the name of the schema.

use crate::row::COLUMNS;

#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) claim: String,
    pub(crate) contains: String,
    pub(crate) forget: String,
    pub(crate) begin: String,
    pub(crate) renew: String,
    pub(crate) end: String,
    pub(crate) record: String,
    pub(crate) redrive: String,
    pub(crate) settle: String,
    pub(crate) forget_record: String,
    pub(crate) dead_letters: String,
    pub(crate) stats: String,
    pub(crate) open_generations: String,
    pub(crate) drop_generation: String,
    pub(crate) delete_ended_claims: String,
    pub(crate) delete_ended_records: String,
}

impl Statements {
    pub(crate) fn new(schema: &str) -> Self {
        let call = |columns: &str, function: &str, count: usize| {
            let params: Vec<String> = (1..=count).map(|n| format!("${n}")).collect();
            format!("SELECT {columns} FROM \"{schema}\".{function}({})", params.join(", "))
        };
        Self {
            claim: call("places, seen, own, made", "claim", 6),
            contains: call("*", "contains", 2),
            forget: call("*", "forget", 4),
            begin: call(COLUMNS, "begin_attempt", 11),
            renew: call(COLUMNS, "renew_attempt", 6),
            end: call(COLUMNS, "end_attempt", 13),
            record: call(COLUMNS, "record", 2),
            redrive: call("*", "redrive", 4),
            settle: call("*", "settle", 6),
            forget_record: call("*", "forget_record", 4),
            dead_letters: call("*", "dead_letters", 3),
            stats: format!(
                "SELECT \"{schema}\".claims_about($1) || \"{schema}\".records_about($1)"
            ),
            open_generations: call("*", "open_generations", 1),
            drop_generation: call("*", "drop_generation", 1),
            delete_ended_claims: call("*", "delete_ended_claims", 2),
            delete_ended_records: call("*", "delete_ended_records", 2),
        }
    }
}
