//! An address down to its county.
//!
//! The rule: a province (one of the 34, or any `…省` of two to four characters), then, but for the four municipalities,
//! a prefecture (up to the first 市, 地区, 自治州 or 盟), then a county (up to the first 县, 区, 市 or 旗). The four
//! cities that have no counties end at the city. A county's name is short and holds no digit and no word of a street
//! or an estate. Where any of this does not hold, the rule cannot tell where the county ends, and nothing is kept.

/// Provinces whose name does not end in 省.
const REGIONS: [&str; 11] = [
    "北京市",
    "天津市",
    "上海市",
    "重庆市",
    "内蒙古自治区",
    "广西壮族自治区",
    "西藏自治区",
    "宁夏回族自治区",
    "新疆维吾尔自治区",
    "香港特别行政区",
    "澳门特别行政区",
];

const MUNICIPALITIES: [&str; 4] = ["北京市", "天津市", "上海市", "重庆市"];

/// Prefectures without counties.
const UNDIVIDED: [&str; 4] = ["东莞市", "中山市", "儋州市", "嘉峪关市"];

const PREFECTURE_ENDS: [&str; 4] = ["自治州", "地区", "市", "盟"];

const COUNTY_ENDS: [&str; 4] = ["县", "区", "市", "旗"];

/// Words that no county's name holds, but for [`FIRST_ONLY`] at its beginning.
const BELOW_COUNTY: [&str; 20] = [
    "村",
    "街",
    "巷",
    "弄",
    "号",
    "栋",
    "楼",
    "室",
    "组",
    "路",
    "道",
    "镇",
    "乡",
    "小区",
    "社区",
    "园区",
    "宅区",
    "开发区",
    "花园",
    "校区",
];

/// Some counties begin so: 镇海区, 路南区, 道里区, 乡宁县.
const FIRST_ONLY: [&str; 4] = ["路", "道", "镇", "乡"];

/// Returns the address down to the county; `None` when the rule cannot tell where that is.
pub(super) fn county(address: &str) -> Option<&str> {
    let province = province(address)?;
    let mut rest = &address[province.len()..];
    if !MUNICIPALITIES.contains(&province) {
        let prefecture = segment(rest, &PREFECTURE_ENDS, 12)?;
        rest = &rest[prefecture.len()..];
        if UNDIVIDED.contains(&prefecture) {
            return Some(&address[..address.len() - rest.len()]);
        }
    }
    let county = segment(rest, &COUNTY_ENDS, 6).or_else(|| {
        // The long names: 双江拉祜族佤族布朗族傣族自治县, 达尔罕茂明安联合旗.
        segment(rest, &["自治县", "自治旗", "旗"], 16)
    })?;
    Some(&address[..address.len() - rest.len() + county.len()])
}

fn province(address: &str) -> Option<&str> {
    REGIONS.into_iter().find(|region| address.starts_with(region)).or_else(|| segment(address, &["省"], 4))
}

/// Returns the beginning of a text up to the first of some endings: a name before it, and not more than `limit`
/// characters in all.
fn segment<'a>(text: &'a str, endings: &[&str], limit: usize) -> Option<&'a str> {
    let first = text.chars().next()?.len_utf8();
    // The name before the ending has at least one character: 市中区 does not end at its first.
    let length = endings.iter().filter_map(|e| text[first..].find(e).map(|at| first + at + e.len())).min()?;
    let name = &text[..length];
    let plain = name.chars().all(|c| matches!(c, '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{323af}'));
    let street = BELOW_COUNTY.iter().any(|word| match name.find(word) {
        Some(0) => !FIRST_ONLY.contains(word) || name[word.len()..].contains(word),
        found => found.is_some(),
    });
    (plain && !street && name.chars().count() <= limit).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_down_to_the_county_or_nothing() {
        let rows = [
            ("江苏省南京市玄武区中山路12号", Some("江苏省南京市玄武区")),
            ("北京市朝阳区某某路1号", Some("北京市朝阳区")),
            ("山东省济南市市中区某某路1号", Some("山东省济南市市中区")),
            ("河北省唐山市路南区某某路1号", Some("河北省唐山市路南区")),
            ("浙江省宁波市镇海区某某镇某某村3组", Some("浙江省宁波市镇海区")),
            ("内蒙古自治区包头市达尔罕茂明安联合旗某某镇", Some("内蒙古自治区包头市达尔罕茂明安联合旗")),
            (
                "云南省临沧市双江拉祜族佤族布朗族傣族自治县某某乡",
                Some("云南省临沧市双江拉祜族佤族布朗族傣族自治县"),
            ),
            ("四川省凉山彝族自治州西昌市某某路", Some("四川省凉山彝族自治州西昌市")),
            (
                "新疆维吾尔自治区伊犁哈萨克自治州察布查尔锡伯自治县某某镇",
                Some("新疆维吾尔自治区伊犁哈萨克自治州察布查尔锡伯自治县"),
            ),
            ("广东省东莞市莞城街道某某路2号", Some("广东省东莞市")),
            ("测试省测试市测试县测试路1号", Some("测试省测试市测试县")),
            // It cannot tell.
            ("湖北省仙桃市干河街道某某小区", None),
            ("江苏省南京市幸福小区3号", None),
            ("江苏省南京市解放路街区", None),
            ("南京市玄武区中山路12号", None),
            ("中山路12号", None),
            ("江苏省", None),
            ("江苏省南京市", None),
            ("Room 5, 江苏省南京市玄武区", None),
            ("江苏省 南京市 玄武区", None),
            ("省市县区", None),
            ("🙂省🙂市🙂县", None),
            ("", None),
        ];
        for (address, expected) in rows {
            assert_eq!(county(address), expected, "{address}");
        }
    }
}
