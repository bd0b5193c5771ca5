//! `replay` and `history`: scopes are listed and ended, and the log tells what it knows of an id.

use firstseen::Store;
use serde_json::Value;

use super::{Ended, Shell};

/// A store with a scope in each state, and a second one that may end either way.
fn filled() -> Shell {
    let shell = Shell::new();
    let store = Store::open(shell.path("S")).unwrap();
    let orders = store.namespace("orders").unwrap();
    orders.claim_batch(&["a", "b"]).unwrap();
    for name in ["promoted", "dropped", "open", "other"] {
        let scope = store.replay(name).unwrap();
        scope.namespace("orders").unwrap().claim_batch(&["a", "b", name]).unwrap();
        scope.raw_table("points").unwrap().put("anna", name).unwrap();
    }
    assert!(store.find_replay("promoted").unwrap().promote().unwrap());
    assert!(store.find_replay("dropped").unwrap().discard().unwrap());
    drop(orders);
    store.close().unwrap();
    shell
}

fn answer(ended: &Ended) -> (i32, &str) {
    (ended.code, ended.out())
}

#[test]
fn replay_scopes_are_listed_with_what_became_of_them() {
    let shell = filled();
    let listed = shell.objects("replay list");
    let states: Vec<(&Value, &Value)> =
        listed.iter().map(|scope| (&scope["name"], &scope["state"])).collect();
    let expected =
        [("promoted", "promoted"), ("dropped", "dropped"), ("open", "open"), ("other", "open")];
    let expected = expected.map(|(name, state)| (Value::from(name), Value::from(state)));
    assert_eq!(states, expected.each_ref().map(|(name, state)| (name, state)));
    assert_eq!(listed[2]["names"], Value::from(vec!["orders", "points"]));
    assert!(listed[0]["ended"].as_u64() >= listed[0]["created"].as_u64(), "{listed:?}");
    assert!(listed[0]["ended_utc"].as_str().unwrap().ends_with('Z'), "{listed:?}");
    assert!(listed[2]["ended"].is_null() && listed[2].get("ids").is_none(), "{listed:?}");
    assert_eq!(shell.objects("replay list --limit 1").len(), 1);
    let ended = shell.words("replay list");
    assert_eq!((ended.code, ended.out().lines().count()), (0, 5), "{ended:?}");
    assert!(ended.out().lines().next().unwrap().ends_with("  NAMES  SCOPE"), "{ended:?}");
    assert!(ended.out().contains("  2      other\n"), "{ended:?}");
}

#[test]
fn what_is_inside_a_scope_is_counted_before_it_is_promoted() {
    let shell = filled();
    let listed = shell.objects("replay list --count");
    let open = &listed[2];
    let numbers = ["ids", "duplicates", "new_ids"].map(|field| open[field].as_u64());
    assert_eq!(numbers, [Some(3), Some(2), Some(1)], "{open}");
    let orders = open["counts"].as_array().unwrap().iter();
    let orders = orders.clone().find(|count| count["namespace"] == "orders").unwrap();
    assert_eq!((&orders["claims"], &orders["claims_outside"]), (&3.into(), &2.into()));
    assert_eq!((&orders["records"], &orders["records_outside"]), (&0.into(), &0.into()));
    assert!(listed[0].get("ids").is_none(), "what was promoted is outside: {listed:?}");
    let ended = shell.words("replay list --count");
    assert!(ended.out().contains("  3, of which 2 known outside\n"), "{ended:?}");
}

#[test]
fn a_scope_is_promoted_or_dropped_once_and_for_all() {
    let shell = filled();
    assert_eq!(shell.object("table get points anna")["value"], "promoted");
    assert_eq!(answer(&shell.words("replay promote open")), (0, "open promoted\n"));
    assert_eq!(shell.object("table get points anna")["value"], "open");
    assert_eq!(shell.words("get open --namespace orders").code, 0);
    assert_eq!(shell.words("get promoted --namespace orders").code, 1, "it was replaced");
    assert_eq!(answer(&shell.words("replay promote open")), (0, "open was promoted before\n"));
    assert_eq!(answer(&shell.words("replay drop open")), (1, "open was promoted before\n"));
    assert_eq!(answer(&shell.words("replay drop other")), (0, "other dropped\n"));
    assert_eq!(answer(&shell.words("replay drop other")), (0, "other was dropped before\n"));
    assert_eq!(answer(&shell.words("replay promote other")), (1, "other was dropped before\n"));
    assert_eq!(shell.object("table get points anna")["value"], "open");
    for (line, code, state) in [
        ("promote open", 0, "promoted"),
        ("drop open", 1, "promoted"),
        ("drop other", 0, "dropped"),
    ] {
        let ended = shell.words(&format!("replay {line} --json"));
        let name = line.split(' ').next_back().unwrap();
        let told = format!("{{\"name\":\"{name}\",\"state\":\"{state}\",\"changed\":false}}\n");
        assert_eq!(answer(&ended), (code, told.as_str()), "{line}");
    }
}

#[test]
fn an_unknown_scope_is_an_error_and_makes_none() {
    let shell = filled();
    for end in ["promote", "drop"] {
        let ended = shell.words(&format!("replay {end} opne"));
        ended.complains(2, &["no replay scope \"opne\"", "promoted, dropped, open, other"]);
        assert_eq!(ended.out(), "");
    }
    assert_eq!(shell.objects("replay list").len(), 4);
    let shell = Shell::new();
    shell.prints(&[], "a\n");
    shell.words("replay promote opne").complains(2, &["\"opne\"", "there are none"]);
    assert_eq!(shell.objects("replay list").len(), 0);
}

#[test]
fn a_scope_that_a_prepared_transaction_holds_stays() {
    let shell = filled();
    let store = Store::open(shell.path("S")).unwrap();
    let mut transaction = store.transaction();
    transaction.claim_in(&store.namespace("orders").unwrap(), "held");
    assert!(transaction.prepare("transfer").unwrap().is_committed());
    drop(transaction);
    store.close().unwrap();
    shell.words("replay promote open").complains(3, &["prepared"]);
    assert_eq!(shell.objects("replay list")[2]["state"], "open");
    assert_eq!(shell.words("prepared rollback transfer").code, 0);
    assert_eq!(shell.words("replay promote open").code, 0);
}

/// A store that knows something of an id: claimed with another, forgotten, claimed again, and written about.
fn eventful() -> Shell {
    let shell = Shell::new();
    let store = Store::open(shell.path("S")).unwrap();
    let orders = store.namespace("orders").unwrap();
    orders.claim_batch(&["a", "b"]).unwrap();
    assert!(orders.forget("a").unwrap());
    let table = store.raw_table("orders").unwrap();
    let mut transaction = store.transaction();
    transaction.claim_in(&orders, "a").put(&table, "a", b"value").unwrap();
    assert!(transaction.commit().unwrap().is_committed());
    assert!(table.delete("a").unwrap());
    drop((transaction, orders, table));
    store.close().unwrap();
    shell
}

#[test]
fn the_history_of_an_id_is_told_in_its_order() {
    let shell = eventful();
    let events = shell.objects("history a --namespace orders");
    let what: Vec<&str> = events.iter().map(|event| event["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["claimed", "forgotten", "claimed", "put", "deleted"]);
    assert_eq!((&events[0]["claims"], &events[0]["rows"]), (&2.into(), &0.into()));
    assert_eq!((&events[2]["claims"], &events[2]["rows"]), (&1.into(), &1.into()));
    assert_eq!(events[0]["namespaces"], Value::from(vec!["orders"]));
    assert_eq!((&events[3]["row"], &events[3]["stage"]), (&"state".into(), &Value::Null));
    assert!(events[4]["sequence"].as_u64() > events[3]["sequence"].as_u64(), "{events:?}");
    assert!(events[3]["bytes"].as_u64() >= Some(5) && events[4]["bytes"].is_null(), "{events:?}");
    assert!(events[0]["time"].as_u64() > Some(0) && events[3]["time"].is_null(), "{events:?}");
    assert!(events[0]["time_utc"].as_str().unwrap().ends_with('Z'), "{events:?}");
    assert!(events.iter().all(|event| event["deadline"].is_null() && event["copies"] == 0));
    assert!(events.is_sorted_by_key(|event| (event["segment"].as_u64(), event["offset"].as_u64())));
    let ended = shell.words("history a --namespace orders");
    let lines: Vec<&str> = ended.out().lines().collect();
    assert_eq!((ended.code, lines.len()), (0, 6), "{ended:?}");
    assert!(lines[1].contains("  claimed        never  "), "{ended:?}");
    assert!(lines[1].ends_with("  2 claims, 0 rows: orders"), "{ended:?}");
    assert!(lines[4].contains("  put state      never  "), "{ended:?}");
    assert!(lines[5].trim_start().starts_with("deleted state  "), "{ended:?}");
    assert_eq!(shell.objects("history 61 --hex --namespace orders").len(), 5);
}

#[test]
fn the_history_goes_on_around_what_is_damaged() {
    let shell = Shell::new();
    let store = Store::open(shell.path("S")).unwrap();
    assert!(store.claim("before").unwrap().is_first_seen());
    let ids: Vec<String> = (0..500).map(|n| format!("id-{n:028}")).collect();
    store.claim_batch(&ids).unwrap();
    assert!(store.claim("behind").unwrap().is_first_seen());
    store.close().unwrap();
    let log = std::fs::read_dir(shell.path("S/log")).unwrap();
    let segment = log.map(|entry| entry.unwrap().path()).min().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[5_000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    shell.words("get before").complains(3, &["is damaged"]);
    for (id, lines) in [("before", 2), ("behind", 2), (&ids[3], 0)] {
        let ended = shell.words(&format!("history {id}"));
        ended.complains(3, &["S/log/", " bytes at ", " cannot be read"]);
        assert_eq!(ended.out().lines().count(), lines, "{id}: {ended:?}");
    }
}

#[test]
fn an_id_of_which_nothing_is_known_has_no_history() {
    let shell = eventful();
    for (line, told) in [
        ("history a", "nothing is known\n"),
        ("history c --namespace orders", "nothing is known\n"),
        ("history c --namespace orders --json", ""),
    ] {
        assert_eq!(answer(&shell.words(line)), (1, told), "{line}");
    }
    shell.words("history a --namespace oders").complains(2, &["\"oders\"", "orders"]);
    for line in ["history", "history xyz --hex"] {
        let ended = shell.words(line);
        assert_eq!((ended.code, ended.out()), (2, ""), "{line}: {ended:?}");
    }
}

#[test]
fn help_documents_the_fields_of_scopes_and_histories_and_every_option() {
    let (scopes, events) = (filled(), eventful());
    for (command, shell, line) in [
        ("replay list", &scopes, "replay list --count"),
        ("history", &events, "history a --namespace orders"),
    ] {
        let help = shell.run(command.split(' ').chain(["--help"]), "");
        let page = shell.run(["man"].into_iter().chain(command.split(' ')), "");
        let shown = shell.objects(line);
        let fields = shown.iter().flat_map(|shown| shown.as_object().unwrap().keys());
        for field in fields.filter(|field| !field.ends_with("_utc")) {
            assert!(help.out().contains(&format!("  {field} ")), "{command}: {field}");
            assert!(page.out().contains(field.as_str()), "{command}: {field}");
        }
    }
    for (command, options) in [
        ("replay list", &["store", "limit", "count", "json", "wait"][..]),
        ("replay promote", &["store", "json", "wait"]),
        ("replay drop", &["store", "json", "wait"]),
        ("history", &["store", "namespace", "hex", "json", "wait"]),
    ] {
        let help = scopes.run(command.split(' ').chain(["--help"]), "");
        for option in options {
            assert!(help.out().contains(&format!("--{option}")), "{command}: {option}");
        }
    }
    for name in ["bash", "zsh", "fish"] {
        let script = scopes.run(["completions", name], "");
        for word in ["replay", "promote", "history"] {
            assert!(script.out().contains(word), "{name}: {word}");
        }
    }
    let _store = Store::open(scopes.path("S")).unwrap();
    for line in ["replay list", "replay promote open", "replay drop open", "history a"] {
        scopes.words(line).complains(3, &["is open in another process", "--wait"]);
    }
}
