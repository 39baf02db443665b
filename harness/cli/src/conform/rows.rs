//! The rules of the candidate protocol, one check each, in the order in which they can be tried.
use super::Outcome::{self, Good, NotTried, Wrong};
use super::play::{Player, Reigning};
use super::storage::Loopback;
use splitbrain_core::op::{Answer, Outcome as Answered, Status};
use splitbrain_core::{Op, Token, Unasked};

/// What the candidate's host is called.
pub(super) const HOST: &str = "c1";

/// Values are unique in a run.
const FIRST: u64 = 41;
const SECOND: u64 = 42;
const REFUSED: u64 = 43;

type Row = (&'static str, Outcome);
type Check = fn(&mut Player, &Loopback) -> Outcome;

/// All checks of one candidate.
pub(super) fn all(mut player: Player, storage: Loopback) -> Vec<Row> {
    let mut rows = vec![("ready", ready(&mut player))];
    let checks: [(&'static str, Check); 9] = [
        ("observe", observe),
        ("unknown operation", unknown),
        ("two at once", two_at_once),
        ("garbage input", garbage_input),
        ("election", election),
        ("write", write),
        ("read", read),
        ("fence", fence),
        ("resign", resign),
    ];
    for (name, check) in checks {
        let outcome = match player.ready && !player.gone() {
            true => check(&mut player, &storage),
            false => NotTried,
        };
        rows.push((name, outcome));
    }
    let end = end(&mut player);
    rows.push(("ids", rule(&player.ids, "each request was answered once at most")));
    rows.push(("reigns", rule(&player.reigns, "answers and events agree")));
    rows.push(("lines", rule(&player.lines, "every line is a word of the protocol")));
    rows.push(("end", end));
    rows
}

/// A rule that holds throughout: what broke it first.
fn rule(broken: &[String], good: &str) -> Outcome {
    match broken {
        [] => Good(good.to_string()),
        [one] => Wrong(one.clone()),
        [first, more @ ..] => Wrong(format!("{first}; and {} more", more.len())),
    }
}

fn show(answer: &Option<Answered>, player: &Player) -> String {
    match answer {
        Some(Answered::Ok(answer)) => format!("it was answered with ok: {answer:?}"),
        Some(Answered::Fail(why)) => format!("it was answered with fail: {why}"),
        Some(Answered::Info(why)) => format!("it was answered with info: {why}"),
        None if player.gone() => "the program ended".to_string(),
        None => format!("there was no answer within {:?}", player.patience()),
    }
}

fn ready(player: &mut Player) -> Outcome {
    match player.listen(player.election(), |player| player.ready) {
        true => Good("it said so".to_string()),
        false if player.gone() => Wrong("the program ended before it said ready".to_string()),
        false => Wrong(format!("it did not say so within {:?}", player.election())),
    }
}

fn observe(player: &mut Player, _: &Loopback) -> Outcome {
    match player.ask(Op::Observe) {
        Some(Answered::Ok(Answer::Status(Status { role, .. }))) => {
            Good(format!("it is a {}", format!("{role:?}").to_lowercase()))
        }
        other => Wrong(format!("{}; it takes ok with a role", show(&other, player))),
    }
}

fn unknown(player: &mut Player, _: &Loopback) -> Outcome {
    let (id, request) = player.request("\"dance\"");
    player.tell(&request);
    match player.answer(id) {
        Some(Answered::Fail(why)) => Good(format!("dance was refused: {why}")),
        other => Wrong(format!("dance: {}; it takes fail", show(&other, player))),
    }
}

fn two_at_once(player: &mut Player, _: &Loopback) -> Outcome {
    let (one, first) = player.request("\"observe\"");
    let (other, second) = player.request("\"observe\"");
    // In one write: a program must read lines, and not whatever one read gives.
    player.tell(&format!("{first}{second}"));
    for id in [one, other] {
        let answer = player.answer(id);
        if !matches!(answer, Some(Answered::Ok(_))) {
            return Wrong(format!(
                "of two requests in one write, request {id}: {}",
                show(&answer, player)
            ));
        }
    }
    Good("both were answered".to_string())
}

fn garbage_input(player: &mut Player, _: &Loopback) -> Outcome {
    for garbage in [
        "this is no JSON\n",
        "[]\n",
        "{\"id\":\"seven\"}\n",
        "\n",
        "\u{fffd}\u{0}\n",
    ] {
        player.tell(garbage);
    }
    match player.ask(Op::Observe) {
        Some(Answered::Ok(_)) => Good("it goes on".to_string()),
        other => Wrong(format!("after lines that are no requests, {}", show(&other, player))),
    }
}

fn election(player: &mut Player, _: &Loopback) -> Outcome {
    let answer = player.ask(Op::Campaign);
    if !matches!(answer, Some(Answered::Ok(Answer::Done) | Answered::Fail(_))) {
        return Wrong(format!("campaign: {}; it takes ok", show(&answer, player)));
    }
    if !player.listen(player.election(), |player| player.reigning.is_some()) {
        return Wrong(match player.gone() {
            true => "the program ended before it was elected".to_string(),
            false => format!(
                "it was not elected within {:?}: are its servers there?",
                player.election()
            ),
        });
    }
    match (player.ask(Op::Observe), player.reigning) {
        (Some(Answered::Ok(Answer::Status(status))), Some(Reigning { reign, .. })) if status.reign == Some(reign) => {
            Good(format!("it leads in reign {reign}"))
        }
        (_, None) => Wrong("it was deposed at once, without any fault".to_string()),
        (answer, _) => Wrong(format!(
            "once elected, observe: {}; it takes the same reign",
            show(&answer, player)
        )),
    }
}

fn write(player: &mut Player, storage: &Loopback) -> Outcome {
    let Some(Reigning { token, .. }) = player.reigning else {
        return NotTried;
    };
    let token = token.unwrap_or(Token::NONE);
    let mut before = 0;
    for value in [FIRST, SECOND] {
        let answer = player.ask(Op::Write { value });
        let Some(Answered::Ok(Answer::Written { token: told, seq })) = answer else {
            return Wrong(format!(
                "write: {}; it takes ok with token and seq",
                show(&answer, player)
            ));
        };
        let Some(Unasked::Stored {
            seq: place,
            token: under,
            base,
            by,
            ..
        }) = storage.fate_of(value)
        else {
            return Wrong(format!(
                "it says that {value} was written, but the storage has no such write"
            ));
        };
        if (told, seq) != (under, place) {
            return Wrong(format!(
                "it says token {told} and seq {seq}, but the storage has token {under} and seq {place}"
            ));
        }
        if under != token {
            return Wrong(format!("it wrote under token {under}, and was elected with {token}"));
        }
        if by.as_str() != HOST {
            return Wrong(format!(
                "it wrote as {by}: the storage's hello takes SPLITBRAIN_HOST, {HOST}"
            ));
        }
        if base != before {
            return Wrong(format!(
                "it wrote number {seq} with base {base}, but had seen number {before}"
            ));
        }
        before = seq;
    }
    Good(format!("two writes under token {token}"))
}

fn read(player: &mut Player, _: &Loopback) -> Outcome {
    match player.ask(Op::Read) {
        Some(Answered::Ok(Answer::Value(Some(SECOND)))) => Good("the newest write".to_string()),
        // Whoever could not write has nothing to read.
        Some(Answered::Ok(Answer::Value(None))) if player.reigning.is_none() => NotTried,
        other => Wrong(format!(
            "{}; it takes ok with the newest value, {SECOND}",
            show(&other, player)
        )),
    }
}

fn fence(player: &mut Player, storage: &Loopback) -> Outcome {
    let Some(Reigning { token, .. }) = player.reigning else {
        return NotTried;
    };
    let Some(token) = token else {
        return Good("it has no tokens, so nothing fences it: say tokens = false in [deploy]".to_string());
    };
    if let Err(error) = storage.raise_fence(token.0 + 1) {
        return Wrong(format!("the storage could not be asked: {error}"));
    }
    match player.ask(Op::Write { value: REFUSED }) {
        Some(Answered::Fail(why)) => Good(format!("a write that the storage refused: fail, {why}")),
        other => Wrong(format!(
            "a write that the storage refused: {}; it takes fail",
            show(&other, player)
        )),
    }
}

fn resign(player: &mut Player, _: &Loopback) -> Outcome {
    let Some(Reigning { reign, .. }) = player.reigning else {
        return NotTried;
    };
    let answer = player.ask(Op::Resign);
    if !matches!(answer, Some(Answered::Ok(Answer::Done))) {
        return Wrong(format!("{}; it takes ok", show(&answer, player)));
    }
    let over = |player: &Player| player.reigning.is_none_or(|now| now.reign != reign);
    if !player.listen(player.patience(), over) {
        return Wrong(format!("no deposed of reign {reign} within {:?}", player.patience()));
    }
    match player.ask(Op::Observe) {
        Some(Answered::Ok(Answer::Status(status))) if status.reign != Some(reign) => {
            Good(format!("reign {reign} is over"))
        }
        other => Wrong(format!("after deposed, observe: {}", show(&other, player))),
    }
}

fn end(player: &mut Player) -> Outcome {
    let before = player.gone();
    match player.end() {
        Some(how) if before => Wrong(format!("it ended by itself ({how})")),
        Some(how) => Good(format!("it ended with its input ({how})")),
        None => Wrong("it did not end within 5s of the end of its input, and was killed".to_string()),
    }
}
