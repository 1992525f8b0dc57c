//! `hutong demo`: three departments on one machine, a register that keeps changing, and a proof at the end.

mod layout;
mod proof;
mod register;
mod screen;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hutong_core::{ErrorKind, Result, ResultExt};
use hutong_engine::supervisor::OnError;
use hutong_engine::{Board, LaneStatus, Metrics, Supervisor, status::now_us};
use hutong_stores::sqlite::Plain;
use tokio_util::sync::CancellationToken;

use self::layout::Way;
use self::proof::{CLAIMS, compare};
use self::register::Register;
use self::screen::Screen;
use super::run::stop_on_signal;
use super::{arguments, check, table};
use crate::exit::Exit;
use crate::http;
use crate::share::Roster;
use crate::wire::{self, Wire};

/// When the late subscription starts.
const LATE: Duration = Duration::from_secs(6);
/// How long the replicas may take to reach the register after its last change.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(options: arguments::Demo) -> Result<Exit> {
    let seed = options.seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
    let mut register = Register::new(seed);
    let temporary = match options.folder {
        Some(_) => None,
        None => Some(tempfile::tempdir().or_kind(ErrorKind::Unavailable, || "make a folder".into())?),
    };
    let folder = match (&temporary, &options.folder) {
        (Some(temporary), _) => temporary.path().to_owned(),
        (None, folder) => folder.clone().unwrap_or_default(),
    };
    let way = match (options.kafka, options.registry) {
        (Some(brokers), Some(registry)) => Way::Kafka { brokers, registry },
        _ => Way::Embedded,
    };
    let config = layout::prepare(&folder, &way, &mut register)?;
    introduce(&folder, seed, &way);
    show(&folder, &config, register, options.rate.max(1), options.seconds).await
}

fn introduce(folder: &Path, seed: u64, way: &Way) {
    let bus = match way {
        Way::Embedded => "a folder (no server)".to_owned(),
        Way::Kafka { brokers, .. } => format!("Kafka at {brokers}"),
    };
    println!(
        "公安局 keeps a population register of {} people and changes it all the time (seed {seed}).",
        layout::PEOPLE
    );
    println!("人社局 may hold six columns of those who are not cancelled, the phone masked.");
    println!("卫健委 may hold three columns of everybody, name and address masked, and, from a late start,");
    println!(
        "four columns of those born in 2026. The bus is {bus}; everything is in {}.\n",
        folder.display()
    );
}

/// Runs the bus and the register, then proves.
async fn show(
    folder: &Path,
    config: &Path,
    register: Register,
    rate: u64,
    seconds: Option<u64>,
) -> Result<Exit> {
    let plan = check::load(config)?;
    let (board, metrics) = (Board::new(), Metrics::new()?);
    let mut supervisor = Supervisor::new();
    // Ctrl-C ends the register, and then the proof runs; the lanes are asked to stop after it.
    let changing = CancellationToken::new();
    let mut signals = Supervisor::new();
    stop_on_signal(&mut signals)?;
    let (asked, stopped) = (signals.token(), supervisor.token());
    let wire = Wire::connect(&plan, board.clone(), metrics.clone())?;
    wire.serve_registry(&mut supervisor).await?;
    let pulse = http::health::Pulse::default();
    supervisor.spawn("pulse", OnError::StopAll, pulse.clone().beat(supervisor.token()));
    wire::watch::start(&mut supervisor, &plan, &wire, board.clone(), &metrics, |_| true);
    let watched = http::status::Watched {
        board: board.clone(),
        metrics,
        pulse,
        group_lag: http::status::GroupLag::of(&plan),
        roster: Roster::alone(),
    };
    let address =
        http::serve(&mut supervisor, "http", plan.http.address, http::status::router(watched)).await?;
    for capture in &plan.captures {
        wire::install(capture).await?;
        let lane = wire.capture(capture)?;
        supervisor.spawn(lane.id.to_string(), OnError::Continue, lane.run(supervisor.token()));
    }
    let (late, early): (Vec<_>, Vec<_>) = plan.subscriptions.iter().partition(|s| s.name == "weijian_births");
    for subscription in early {
        for lane in wire.replicate(subscription)? {
            supervisor.spawn(lane.id.to_string(), OnError::Continue, lane.run(supervisor.token()));
        }
    }
    supervisor.spawn(
        "register",
        OnError::StopAll,
        keep_changing(folder.join("gongan.db"), register, rate, changing.clone()),
    );
    println!("status and metrics at http://{address}/status and /metrics; Ctrl-C ends it with the proof\n");

    let started = Instant::now();
    let mut screen = Screen::new();
    let mut late = late;
    let step = Duration::from_millis(if screen.live() { 250 } else { 2_000 });
    let mut ticks = tokio::time::interval(step);
    while seconds.is_none_or(|s| started.elapsed() < Duration::from_secs(s)) && !asked.is_cancelled() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = asked.cancelled() => break,
            // The register's office or a server has failed: the supervisor knows why.
            () = stopped.cancelled() => return supervisor.wait(Duration::from_secs(10)).await.map(|()| Exit::Broken),
        }
        if started.elapsed() >= LATE
            || seconds.is_some_and(|s| started.elapsed() * 2 >= Duration::from_secs(s))
        {
            for subscription in late.drain(..) {
                for lane in wire.replicate(subscription)? {
                    supervisor.spawn(lane.id.to_string(), OnError::Continue, lane.run(supervisor.token()));
                }
            }
        }
        let headline = format!("{:>3} s", started.elapsed().as_secs());
        screen.paint(&headline, &board.status(now_us()));
    }
    changing.cancel();
    let exit = prove(folder, &mut screen, &board).await?;
    signals.token().cancel();
    supervisor.token().cancel();
    supervisor.wait(Duration::from_secs(10)).await?;
    Ok(exit)
}

/// Plays the department's office: `rate` transactions a second.
async fn keep_changing(
    office: PathBuf,
    mut register: Register,
    rate: u64,
    stop: CancellationToken,
) -> Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate as f64));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return Ok(()),
        }
        let (_, sql) = register.step();
        let office = office.clone();
        tokio::task::spawn_blocking(move || Plain::open(&office)?.run(&sql))
            .await
            .or_kind(ErrorKind::Broken, || "change the register".into())??;
    }
}

/// Waits until each replica holds what it should, and says what it found.
async fn prove(folder: &Path, screen: &mut Screen, board: &Board) -> Result<Exit> {
    let deadline = Instant::now() + PATIENCE;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let findings = loop {
        tick.tick().await;
        let found: Vec<_> = CLAIMS.iter().map(|claim| (claim, compare(folder, claim))).collect();
        let equal = found.iter().all(|(_, finding)| finding.as_ref().is_ok_and(proof::Finding::equal));
        if equal || Instant::now() > deadline {
            break found;
        }
    };
    let lanes = board.status(now_us());
    screen.paint("end", &lanes);
    println!();
    let (text, proved) = verdict(&findings, &lanes);
    print!("{text}");
    Ok(if proved { Exit::Done } else { Exit::Broken })
}

/// Says what is wrong with the lanes, what each replica holds, and whether that is a proof.
fn verdict(findings: &[(&proof::Claim, Result<proof::Finding>)], lanes: &[LaneStatus]) -> (String, bool) {
    let mut lines = Vec::new();
    for lane in lanes.iter().filter(|lane| lane.error.is_some()) {
        lines.push(format!(
            "{} is {}: {}",
            lane.lane,
            lane.state.name(),
            lane.error.as_deref().unwrap_or_default()
        ));
        lines.extend(lane.hint.as_ref().map(|hint| format!("  what to do: {hint}")));
    }
    let mut proved = true;
    for (claim, finding) in findings {
        lines.push(match finding {
            Ok(finding) => {
                proved &= finding.equal();
                let rows = table::thousands(finding.rows);
                format!(
                    "{}: {rows} rows, {} missing, {} surplus",
                    claim.name, finding.missing, finding.surplus
                )
            }
            Err(error) => {
                proved = false;
                format!("{}: nothing to compare, {error}", claim.name)
            }
        });
    }
    let quarantined: u64 = lanes.iter().map(|lane| lane.quarantined).sum();
    lines.push(match quarantined {
        1 => "1 row waits in the quarantine: its citizen number has a wrong check character".to_owned(),
        more => format!("{more} rows wait in the quarantine"),
    });
    let sentence = match proved {
        true => "PROVED: every replica equals what SQL over the register says it should hold.",
        false => "NOT PROVED: a replica differs from what SQL over the register says it should hold.",
    };
    lines.push(sentence.to_owned());
    (lines.join("\n") + "\n", proved)
}

#[cfg(test)]
mod tests {
    use hutong_core::Error;

    use super::*;

    #[test]
    fn a_replica_that_cannot_be_read_is_no_proof() {
        let equal = || Ok(proof::Finding { rows: 5, missing: 0, surplus: 0 });
        let unreadable = Err(Error::new(ErrorKind::Config, "read the replica", "no such table: population"));
        let finding = |finding| vec![(&CLAIMS[0], finding), (&CLAIMS[1], equal())];

        let (text, proved) = verdict(&finding(unreadable), &[]);
        assert!(!proved);
        let told = "renshe_population: nothing to compare, failed to read the replica: no such table";
        assert!(text.starts_with(told) && text.lines().last().unwrap().starts_with("NOT PROVED"), "{text}");

        let (text, proved) = verdict(&finding(equal()), &[]);
        assert!(proved && text.starts_with("renshe_population: 5 rows, 0 missing, 0 surplus\n"), "{text}");
    }
}
