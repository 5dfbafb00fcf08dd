//! Telephone numbers as people write them, with the country that they are in (`m.id.phone`, `msisdn/requestToken`).

use rhizome_edge::MatrixError;

use super::validated::{ThirdParty, msisdn};

/// Countries (ISO 3166-1 alpha-2) by their calling codes (ITU-T E.164).
const CODES: &[(&str, &str)] = &[
    ("1", "US CA"),
    ("1242", "BS"),
    ("1246", "BB"),
    ("1264", "AI"),
    ("1268", "AG"),
    ("1284", "VG"),
    ("1340", "VI"),
    ("1345", "KY"),
    ("1441", "BM"),
    ("1473", "GD"),
    ("1649", "TC"),
    ("1664", "MS"),
    ("1670", "MP"),
    ("1671", "GU"),
    ("1684", "AS"),
    ("1721", "SX"),
    ("1758", "LC"),
    ("1767", "DM"),
    ("1784", "VC"),
    ("1787", "PR"),
    ("1809", "DO"),
    ("1868", "TT"),
    ("1869", "KN"),
    ("1876", "JM"),
    ("20", "EG"),
    ("211", "SS"),
    ("212", "MA EH"),
    ("213", "DZ"),
    ("216", "TN"),
    ("218", "LY"),
    ("220", "GM"),
    ("221", "SN"),
    ("222", "MR"),
    ("223", "ML"),
    ("224", "GN"),
    ("225", "CI"),
    ("226", "BF"),
    ("227", "NE"),
    ("228", "TG"),
    ("229", "BJ"),
    ("230", "MU"),
    ("231", "LR"),
    ("232", "SL"),
    ("233", "GH"),
    ("234", "NG"),
    ("235", "TD"),
    ("236", "CF"),
    ("237", "CM"),
    ("238", "CV"),
    ("239", "ST"),
    ("240", "GQ"),
    ("241", "GA"),
    ("242", "CG"),
    ("243", "CD"),
    ("244", "AO"),
    ("245", "GW"),
    ("246", "IO"),
    ("248", "SC"),
    ("249", "SD"),
    ("250", "RW"),
    ("251", "ET"),
    ("252", "SO"),
    ("253", "DJ"),
    ("254", "KE"),
    ("255", "TZ"),
    ("256", "UG"),
    ("257", "BI"),
    ("258", "MZ"),
    ("260", "ZM"),
    ("261", "MG"),
    ("262", "RE YT"),
    ("263", "ZW"),
    ("264", "NA"),
    ("265", "MW"),
    ("266", "LS"),
    ("267", "BW"),
    ("268", "SZ"),
    ("269", "KM"),
    ("27", "ZA"),
    ("290", "SH"),
    ("291", "ER"),
    ("297", "AW"),
    ("298", "FO"),
    ("299", "GL"),
    ("30", "GR"),
    ("31", "NL"),
    ("32", "BE"),
    ("33", "FR"),
    ("34", "ES"),
    ("350", "GI"),
    ("351", "PT"),
    ("352", "LU"),
    ("353", "IE"),
    ("354", "IS"),
    ("355", "AL"),
    ("356", "MT"),
    ("357", "CY"),
    ("358", "FI AX"),
    ("359", "BG"),
    ("36", "HU"),
    ("370", "LT"),
    ("371", "LV"),
    ("372", "EE"),
    ("373", "MD"),
    ("374", "AM"),
    ("375", "BY"),
    ("376", "AD"),
    ("377", "MC"),
    ("378", "SM"),
    ("380", "UA"),
    ("381", "RS"),
    ("382", "ME"),
    ("383", "XK"),
    ("385", "HR"),
    ("386", "SI"),
    ("387", "BA"),
    ("389", "MK"),
    ("39", "IT VA"),
    ("40", "RO"),
    ("41", "CH"),
    ("420", "CZ"),
    ("421", "SK"),
    ("423", "LI"),
    ("43", "AT"),
    ("44", "GB UK GG IM JE"),
    ("45", "DK"),
    ("46", "SE"),
    ("47", "NO SJ BV"),
    ("48", "PL"),
    ("49", "DE"),
    ("500", "FK GS"),
    ("501", "BZ"),
    ("502", "GT"),
    ("503", "SV"),
    ("504", "HN"),
    ("505", "NI"),
    ("506", "CR"),
    ("507", "PA"),
    ("508", "PM"),
    ("509", "HT"),
    ("51", "PE"),
    ("52", "MX"),
    ("53", "CU"),
    ("54", "AR"),
    ("55", "BR"),
    ("56", "CL"),
    ("57", "CO"),
    ("58", "VE"),
    ("590", "GP BL MF"),
    ("591", "BO"),
    ("592", "GY"),
    ("593", "EC"),
    ("594", "GF"),
    ("595", "PY"),
    ("596", "MQ"),
    ("597", "SR"),
    ("598", "UY"),
    ("599", "CW BQ"),
    ("60", "MY"),
    ("61", "AU CC CX"),
    ("62", "ID"),
    ("63", "PH"),
    ("64", "NZ PN"),
    ("65", "SG"),
    ("66", "TH"),
    ("670", "TL"),
    ("672", "NF AQ HM"),
    ("673", "BN"),
    ("674", "NR"),
    ("675", "PG"),
    ("676", "TO"),
    ("677", "SB"),
    ("678", "VU"),
    ("679", "FJ"),
    ("680", "PW"),
    ("681", "WF"),
    ("682", "CK"),
    ("683", "NU"),
    ("685", "WS"),
    ("686", "KI"),
    ("687", "NC"),
    ("688", "TV"),
    ("689", "PF"),
    ("690", "TK"),
    ("691", "FM"),
    ("692", "MH"),
    ("7", "RU KZ"),
    ("81", "JP"),
    ("82", "KR"),
    ("84", "VN"),
    ("850", "KP"),
    ("852", "HK"),
    ("853", "MO"),
    ("855", "KH"),
    ("856", "LA"),
    ("86", "CN"),
    ("880", "BD"),
    ("886", "TW"),
    ("90", "TR"),
    ("91", "IN"),
    ("92", "PK"),
    ("93", "AF"),
    ("94", "LK"),
    ("95", "MM"),
    ("960", "MV"),
    ("961", "LB"),
    ("962", "JO"),
    ("963", "SY"),
    ("964", "IQ"),
    ("965", "KW"),
    ("966", "SA"),
    ("967", "YE"),
    ("968", "OM"),
    ("970", "PS"),
    ("971", "AE"),
    ("972", "IL"),
    ("973", "BH"),
    ("974", "QA"),
    ("975", "BT"),
    ("976", "MN"),
    ("977", "NP"),
    ("992", "TJ"),
    ("993", "TM"),
    ("994", "AZ"),
    ("995", "GE"),
    ("996", "KG"),
    ("998", "UZ"),
];

/// A number as E.164 has it: one that begins with `+` or `00` is whole, whatever the country; any other is one as it is
/// dialled within it.
///
/// # Errors
/// 400 `M_INVALID_PARAM`
pub(crate) fn number(country: &str, phone: &str) -> Result<ThirdParty, MatrixError> {
    let phone = phone.trim();
    if phone.starts_with('+') {
        return msisdn(phone);
    }
    if let Some(whole) = phone.strip_prefix("00") {
        return msisdn(whole);
    }
    let country = country.to_ascii_uppercase();
    let unknown = || MatrixError::invalid_param("country: a code of two letters, such as GB");
    let code = code_of(&country).ok_or_else(unknown)?;
    let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
    // Many write the whole number without a plus sign; no number within a country is so long.
    if digits.starts_with(code) && digits.len() > 10 {
        return msisdn(&digits);
    }
    let trunk = trunk_of(&country);
    let within = digits.strip_prefix(trunk).unwrap_or(&digits);
    if phone.chars().any(char::is_alphabetic) {
        return msisdn(phone);
    }
    msisdn(&format!("{code}{within}"))
}

fn code_of(country: &str) -> Option<&'static str> {
    let mut codes = CODES.iter();
    let (code, _) = codes.find(|(_, of)| of.split(' ').any(|one| one == country))?;
    Some(code)
}

/// What is dialled within a country before the number proper, which isn't part of it.
fn trunk_of(country: &str) -> &'static str {
    match country {
        // There the zero is part of the number.
        "IT" | "SM" | "VA" => "\u{0}",
        "RU" | "KZ" | "BY" | "TM" => "8",
        "HU" => "06",
        "US" | "CA" => "1",
        _ => "0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        for (country, written, canonical) in [
            ("GB", "07700 900001", "447700900001"),
            ("gb", "+44 7700 900001", "447700900001"),
            ("GB", "00447700900001", "447700900001"),
            ("GB", "447700900001", "447700900001"),
            ("US", "+44 7700 900001", "447700900001"),
            ("US", "(202) 555-0100", "12025550100"),
            ("US", "1 202 555 0100", "12025550100"),
            ("DE", "030 123456", "4930123456"),
            ("IT", "06 1234567", "39061234567"),
            ("HU", "06 20 123 4567", "36201234567"),
            ("KZ", "8 701 123 45 67", "77011234567"),
        ] {
            let read = number(country, written).unwrap();
            assert_eq!(read.address, canonical, "{country} {written}");
        }
    }

    #[test]
    fn what_is_no_number() {
        for (country, written) in [
            ("XX", "07700900001"),
            ("", "1"),
            ("GB", "0"),
            ("GB", "call me on 7700900001"),
            ("GB", ""),
        ] {
            assert!(number(country, written).is_err(), "{country} {written}");
        }
    }
}
