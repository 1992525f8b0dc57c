//! Why a lane is judged as it is, in words of both languages.

/// A transaction that stands open on the topic that a lane reads: who reads committed records sees none behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// The topic and the partition, as `topic/partition`.
    pub place: String,
    /// The offset of its first record there.
    pub offset: u64,
    /// When it was first seen, microseconds since 1970 UTC.
    pub since_us: i64,
    /// The capture that writes the topic; `None` of a topic that another program writes.
    pub capture: Option<String>,
    /// Whether that capture holds it: its checkpoints wait for a transaction too.
    pub own: bool,
    /// What a person does about it.
    pub hint: String,
}

/// Why a verdict was given: each rule's numbers, and what is said of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// It halted.
    Halted,
    /// It was asked to stop, or its bounded source has ended.
    Ended,
    /// A person has paused it.
    Paused,
    /// Nothing may flow through it.
    Held,
    /// It went back so many seconds ago.
    WentBack(i64),
    /// It was caught up within the window.
    CaughtUp,
    /// The window is not full yet.
    Young,
    /// A transaction has been open on its topic for so many seconds.
    Open(Left, i64),
    /// It could not open for so many seconds.
    Closed(i64),
    /// Nothing is seen to wait, and no watermark has passed for so many seconds.
    Silent(f64),
    /// What it has read is not committed for so many seconds, and nothing else is seen to wait.
    Uncommitted(i64),
    /// So many changes wait, and none has passed in so many seconds.
    Waiting(u64, i64),
    /// Nothing has passed in so many seconds, and what waits cannot be told.
    Nothing(i64),
    /// It moves and falls behind.
    Falling {
        /// Changes that passed.
        passed: u64,
        /// In so many seconds.
        seconds: i64,
        /// How far behind it was, in seconds.
        before: f64,
        /// How far behind it is.
        now: f64,
    },
    /// It catches up: seconds behind now, and before.
    Gaining(f64, f64),
}

impl Reason {
    /// Says it in English.
    pub fn en(&self) -> String {
        match self {
            Self::Halted => "it halted: a person must act".into(),
            Self::Ended => "it was asked to stop, or its source has ended".into(),
            Self::Paused => "a person has paused it".into(),
            Self::Held => "nothing may flow through it now".into(),
            Self::WentBack(ago) => format!("it went back {ago} s ago and reads again"),
            Self::CaughtUp => "it was caught up within the window".into(),
            Self::Young => "it is watched for too short a time to judge".into(),
            Self::Open(left, seconds) => {
                let Left { place, offset, capture, own, .. } = left;
                let holder = match capture {
                    Some(capture) if *own => format!("{capture} holds it"),
                    Some(capture) => format!("{capture} does not hold it, another program does"),
                    None => "a program that is not Hutong holds it".into(),
                };
                format!(
                    "a transaction is open on {place} from offset {offset} for {seconds} s, and nothing behind it can be \
                     read: {holder}"
                )
            }
            Self::Closed(seconds) => format!("it could not open for {seconds} s"),
            Self::Silent(seconds) => format!(
                "nothing is seen to wait, and no watermark has passed for {seconds:.0} s: its capture is silent"
            ),
            Self::Uncommitted(seconds) => format!(
                "what it has read could not be committed for {seconds} s: its store is locked or does not answer"
            ),
            Self::Waiting(count, seconds) => {
                format!("{count} changes wait, and none has passed in {seconds} s")
            }
            Self::Nothing(seconds) => format!("nothing has passed in {seconds} s"),
            Self::Falling { passed, seconds, before, now } => format!(
                "{passed} changes passed in {seconds} s, and it fell from {before:.0} s to {now:.0} s behind"
            ),
            Self::Gaining(now, before) => format!("it catches up: {now:.0} s behind, {before:.0} s before"),
        }
    }

    /// Says it in Chinese.
    pub fn zh(&self) -> String {
        match self {
            Self::Halted => "已停止，需要人工处理".into(),
            Self::Ended => "已按要求停止，或源已结束".into(),
            Self::Paused => "已由人暂停".into(),
            Self::Held => "目前未获准流动".into(),
            Self::WentBack(ago) => format!("{ago} 秒前回退，正在重新读取"),
            Self::CaughtUp => "窗口内曾追平".into(),
            Self::Young => "观察时间太短，尚不能判断".into(),
            Self::Open(left, seconds) => {
                let Left { place, offset, capture, own, .. } = left;
                let holder = match capture {
                    Some(capture) if *own => format!("由 {capture} 持有"),
                    Some(capture) => format!("不是 {capture}，而是另一个程序持有"),
                    None => "由 Hutong 以外的程序持有".into(),
                };
                format!(
                    "{place} 自偏移量 {offset} 起有一个事务打开了 {seconds} 秒没有关闭，其后的内容都读不到：{holder}"
                )
            }
            Self::Closed(seconds) => format!("已有 {seconds} 秒无法打开"),
            Self::Silent(seconds) => {
                format!("看不到有变更在等待，而已有 {seconds:.0} 秒没有越过任何水位线：捕获没有声音")
            }
            Self::Uncommitted(seconds) => {
                format!("已读取的内容 {seconds} 秒未能提交：其数据库被锁住或没有应答")
            }
            Self::Waiting(count, seconds) => {
                format!("有 {count} 条变更在等待，{seconds} 秒内没有一条通过")
            }
            Self::Nothing(seconds) => format!("{seconds} 秒内没有任何变更通过"),
            Self::Falling { passed, seconds, before, now } => {
                format!("{seconds} 秒内通过 {passed} 条变更，落后却从 {before:.0} 秒增加到 {now:.0} 秒")
            }
            Self::Gaining(now, before) => format!("正在追赶：落后 {now:.0} 秒，此前 {before:.0} 秒"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_tell_the_same_numbers() {
        let left = |own| Left {
            place: "a.s.v1/3".into(),
            offset: 75,
            capture: Some("capture.gongan".into()),
            own,
            ..Left::default()
        };
        let falling = Reason::Falling { passed: 71, seconds: 72, before: 73.0, now: 74.0 };
        let reasons = [
            (Reason::Halted, vec![]),
            (Reason::Ended, vec![]),
            (Reason::Paused, vec![]),
            (Reason::Held, vec![]),
            (Reason::WentBack(71), vec!["71"]),
            (Reason::CaughtUp, vec![]),
            (Reason::Young, vec![]),
            (Reason::Open(left(true), 71), vec!["71", "a.s.v1/3", "75", "capture.gongan"]),
            (Reason::Open(left(false), 71), vec!["71", "a.s.v1/3", "75", "capture.gongan"]),
            (Reason::Closed(71), vec!["71"]),
            (Reason::Silent(71.4), vec!["71"]),
            (Reason::Waiting(71, 72), vec!["71", "72"]),
            (Reason::Nothing(71), vec!["71"]),
            (falling, vec!["71", "72", "73", "74"]),
            (Reason::Gaining(71.0, 72.0), vec!["71", "72"]),
        ];
        for (reason, numbers) in reasons {
            let (en, zh) = (reason.en(), reason.zh());
            assert!(en.is_ascii() && zh.chars().any(|c| c > '\u{4dff}'), "{en} {zh}");
            for number in numbers {
                assert!(en.contains(number) && zh.contains(number), "{number}: {en} {zh}");
            }
        }
    }
}
