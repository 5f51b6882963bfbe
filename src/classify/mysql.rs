//! The codes of MySQL and MariaDB servers and of their C client.

use super::Connection::{Drop, Keep};
use super::Meaning::{Again, Either, Lost, Refused, Rows, Setup, Shutdown};
use super::{Answers, Stage, Verdict, verdict};
use crate::error::ErrorClass;

/// The class of an error code of a MySQL or MariaDB server or of its C client; `None` if the server
/// gave no answer.
///
/// ```
/// # use load_aware_batcher::ErrorClass;
/// use load_aware_batcher::classify::{Stage, mysql};
///
/// assert_eq!(mysql(Some(1062), Stage::Statement), ErrorClass::Permanent); // duplicate entry
/// assert_eq!(mysql(None, Stage::Commit), ErrorClass::InDoubt); // no answer
/// ```
#[must_use]
pub fn mysql(code: Option<u16>, stage: Stage) -> ErrorClass {
    mysql_verdict(code, stage).class
}

/// The class of an error code of a MySQL or MariaDB server or of its C client, and whether the
/// connection is kept; `None` if the server gave no answer.
///
/// ```
/// # use load_aware_batcher::ErrorClass;
/// # use load_aware_batcher::classify::{Connection, Stage, mysql_verdict};
/// // Read-only after a failover: another server is the primary now.
/// let verdict = mysql_verdict(Some(1290), Stage::Statement);
/// assert_eq!((verdict.class, verdict.connection), (ErrorClass::Unavailable, Connection::Drop));
/// ```
#[must_use]
pub fn mysql_verdict(code: Option<u16>, stage: Stage) -> Verdict {
    verdict(code.map_or((Lost, Drop), answers), stage)
}

fn answers(code: u16) -> Answers {
    match code {
        2006 | 2013 | 2055 | 1152 | 1154..=1161 | 1184 | 1927 | 3169 => (Lost, Drop),
        2002 | 2003 | 2005 | 1042 | 1043 | 1045 | 1129 | 1130 | 1135 | 1698 => (Refused, Drop),
        3032 | 3118 | 3168 | 3955 | 4151 => (Refused, Drop),
        1040 | 1203 | 1226 | 1290 | 1792 | 1836 | 1047 | 4031 => (Refused, Drop),
        1053 | 1077 | 1079 | 1080 => (Shutdown, Drop),
        1020 | 1205 | 1206 | 1213 | 1402 | 1412 | 1613 | 1614 | 1637 | 1689 => (Again, Keep),
        3058 | 3100 | 3101 | 3572 | 4145 => (Again, Keep),
        1028 | 1317 | 1969 | 3024 | 3 | 1026 | 1030 | 1180 => (Lost, Keep),
        1021 | 1037 | 1038 | 1041 | 1114 | 3015 => (Again, Keep),
        // The state of the session; a new one has another.
        1243 | 1461 | 1615 | 1179 | 1192 | 1568 => (Again, Drop),
        1022 | 1062 | 1169 | 1557 | 1586 | 1761 | 1762 | 1859 => (Rows, Keep),
        1048 | 1138 | 1263 | 1364 | 1423 => (Rows, Keep),
        1264 | 1265 | 1292 | 1300 | 1365..=1367 | 1406 | 1411 | 1416 | 1441 | 1525 => (Rows, Keep),
        1690 | 1742 | 1916..=1918 | 1977 | 3020 | 3037 => (Rows, Keep),
        3140 | 3141 | 3146 | 3156..=3158 | 3616 | 3617 | 3903 | 3904 => (Rows, Keep),
        4035..=4040 | 4048..=4050 | 4076 => (Rows, Keep),
        1216 | 1217 | 1369 | 1451 | 1452 | 1526 | 1591 | 1748 | 1863 | 3008 | 3819 | 4025 => {
            (Rows, Keep)
        }
        1139 | 1172 | 1242 | 1339 | 1456 | 1643 | 1644 => (Rows, Keep),
        1118 | 1119 | 1197 | 1301 | 1390 | 1436 | 1705 | 1713 => (Rows, Keep),
        1153 => (Rows, Drop),
        1044 | 1046 | 1049 | 1051 | 1052 | 1054 | 1064 | 1066 | 1103 | 1109 | 1110 | 1115 => {
            (Setup, Drop)
        }
        1142 | 1143 | 1146 | 1149 | 1193 | 1227 | 1231 | 1235 | 1267 | 1273 | 1286 | 1295 => {
            (Setup, Drop)
        }
        1305 | 1348 | 1356 | 1370 | 1442 | 1449 | 1471 | 1582 | 1630 | 1906 | 1932 => (Setup, Drop),
        3105 | 4084 | 4161 | 4162 => (Setup, Drop),
        _ => (Either, Keep),
    }
}
