//! What the program takes of its machine, under the names of Prometheus' own process collector, and how its runtime does.
//!
//! Read from Linux' `/proc` (proc(5)); elsewhere these series stay at 0.

use std::fs;

use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Registry};

/// What the program takes, and how its runtime does.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// Beside the other one, whose names begin with the program's.
    registry: Registry,
    cpu: Counter,
    resident: Gauge,
    addressed: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
    started: Gauge,
    workers: Gauge,
    tasks: Gauge,
    queued: Gauge,
    busy: Counter,
}

impl Runtime {
    /// Makes the series; those of the runtime stand in the registry that is given.
    pub(crate) fn new(own: &Registry) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let gauge = |registry: &Registry, name: &str, help: &str| {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |registry: &Registry, name: &str, help: &str| {
            let counter = Counter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let all = &registry;
        let cpu = counter(all, "process_cpu_seconds_total", "CPU time that the process has taken.")?;
        let resident = gauge(all, "process_resident_memory_bytes", "Memory that it holds.")?;
        let addressed = gauge(all, "process_virtual_memory_bytes", "Memory that it has addresses for.")?;
        let open_fds = gauge(all, "process_open_fds", "Files and connections that it has open.")?;
        let max_fds = gauge(all, "process_max_fds", "How many it may have open.")?;
        let threads = gauge(all, "process_threads", "Its threads.")?;
        let started = gauge(all, "process_start_time_seconds", "When it was started, since 1970.")?;
        let workers = gauge(own, "runtime_workers", "Threads that run the process's tasks.")?;
        let tasks = gauge(own, "runtime_tasks", "Tasks that the runtime keeps.")?;
        let queued = gauge(
            own,
            "runtime_queued_tasks",
            "Tasks that are ready and that no thread has taken yet: more than a few for long, and it lacks CPU.",
        )?;
        let busy =
            counter(own, "runtime_busy_seconds_total", "Time in which the workers had work, all together.")?;
        Ok(Self {
            registry,
            cpu,
            resident,
            addressed,
            open_fds,
            max_fds,
            threads,
            started,
            workers,
            tasks,
            queued,
            busy,
        })
    }

    /// Reads everything anew, and returns the families whose names do not begin with the program's.
    pub(crate) fn families(&self) -> Vec<MetricFamily> {
        self.look();
        self.registry.gather()
    }

    fn look(&self) {
        // What cannot be read stays as it was.
        if let Some(taken) = taken() {
            raise(&self.cpu, taken.cpu_seconds);
            self.resident.set(taken.resident_bytes);
            self.addressed.set(taken.addressed_bytes);
            self.threads.set(taken.threads);
            self.started.set(taken.started_seconds);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the folder that is being read.
            self.open_fds.set(open.count().saturating_sub(1) as f64);
        }
        if let Some(limit) = fs::read_to_string("/proc/self/limits").ok().and_then(|text| file_limit(&text)) {
            self.max_fds.set(limit);
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let runtime = runtime.metrics();
            self.workers.set(runtime.num_workers() as f64);
            self.tasks.set(runtime.num_alive_tasks() as f64);
            self.queued.set(runtime.global_queue_depth() as f64);
            let busy = (0..runtime.num_workers()).map(|worker| runtime.worker_total_busy_duration(worker));
            raise(&self.busy, busy.map(|busy| busy.as_secs_f64()).sum());
        }
    }
}

/// Brings a counter to what was counted elsewhere; never back.
fn raise(counter: &Counter, to: f64) {
    counter.inc_by((to - counter.get()).max(0.0));
}

/// What the kernel says of this process.
#[derive(Debug, PartialEq)]
struct Taken {
    cpu_seconds: f64,
    resident_bytes: f64,
    addressed_bytes: f64,
    threads: f64,
    started_seconds: f64,
}

fn taken() -> Option<Taken> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    read(&stat, &machine, ticks, rustix::param::page_size() as f64)
}

/// Reads `/proc/self/stat` and, for when the machine was started, `/proc/stat`.
fn read(stat: &str, machine: &str, ticks: f64, page_bytes: f64) -> Option<Taken> {
    // The second field is the program's name in parentheses, and may hold anything, parentheses too.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // Numbered as in proc(5), where the first of these is the third.
    let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<f64>().ok();
    let booted = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
    Some(Taken {
        cpu_seconds: (field(14)? + field(15)?) / ticks,
        threads: field(20)?,
        started_seconds: booted + field(22)? / ticks,
        addressed_bytes: field(23)?,
        resident_bytes: field(24)? * page_bytes,
    })
}

/// Reads from `/proc/self/limits` how many files may be open; `None` when there is no limit.
fn file_limit(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_says_whatever_the_program_is_called() {
        let stat = "7 (a) S 1 (x) R 1 7 7 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 9 0 4200 2048 3 18446744073709551615 1 1";
        let wanted = Taken {
            cpu_seconds: 2.0,
            resident_bytes: 12_288.0,
            addressed_bytes: 2_048.0,
            threads: 9.0,
            started_seconds: 1_042.0,
        };
        assert_eq!(read(stat, "cpu  1 2\nbtime 1000\nprocesses 5\n", 100.0, 4_096.0), Some(wanted));
        for (stat, machine) in [("", "btime 1"), ("7 (a) S 1", "btime 1"), (stat, "cpu 1"), (stat, "btime x")]
        {
            assert_eq!(read(stat, machine, 100.0, 4_096.0), None, "{stat} {machine}");
        }
        let limits = "Limit     Soft Limit  Hard Limit  Units\nMax open files            1024                 4096       files\n";
        assert_eq!(file_limit(limits), Some(1_024.0));
        assert_eq!(file_limit("Max open files   unlimited unlimited files"), None);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn this_process_holds_memory_and_files_and_has_a_runtime() {
        let own = Registry::new();
        let runtime = Runtime::new(&own).unwrap();
        let value = |families: &[MetricFamily], name: &str| {
            let family = families.iter().find(|f| f.name() == name).unwrap_or_else(|| panic!("no {name}"));
            let metric = &family.get_metric()[0];
            metric.get_gauge().get_value() + metric.get_counter().get_value()
        };
        let families = runtime.families();
        assert_eq!(families.len(), 7);
        assert!(value(&families, "process_resident_memory_bytes") > 1e6);
        assert!(value(&families, "process_virtual_memory_bytes") > 1e6);
        assert!(value(&families, "process_open_fds") >= 3.0);
        let now = jiff::Timestamp::now().as_second() as f64;
        let age = now - value(&families, "process_start_time_seconds");
        assert!((-2.0..3_600.0).contains(&age), "started {age} s ago");
        assert_eq!(value(&own.gather(), "runtime_workers"), 1.0);
        let before = value(&families, "process_cpu_seconds_total");
        assert!(value(&runtime.families(), "process_cpu_seconds_total") >= before);
    }
}
