//! Block devices: weights, and limits of bytes and operations per second.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

use crate::error::Error;

use super::{Absent, NO_FILE, Write, refuse};

/// Major and minor number.
type Device = (i64, i64);

pub(super) fn plan(block_io: &LinuxBlockIo, writes: &mut Vec<Write>) -> Result<(), Error> {
    if block_io.leaf_weight().is_some_and(|weight| weight != 0) {
        return refuse("blockIO.leafWeight", NO_FILE);
    }
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        writes.push(weight_write("blockIO.weight", "", weight)?);
    }
    for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
        let field = format!("blockIO.weightDevice[{index}]");
        if device.leaf_weight().is_some_and(|weight| weight != 0) {
            return refuse(&format!("{field}.leafWeight"), NO_FILE);
        }
        let (major, minor) = numbers(&field, device.major(), device.minor())?;
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            writes.push(weight_write(&field, &format!("{major}:{minor} "), weight)?);
        }
    }
    plan_throttles(block_io, writes)
}

/// The weight of BFQ is that of the specification (10 to 1000); the general one is from 1 to
/// 10000, and the field's runtimes convert from end to end.
fn weight_write(field: &str, device: &str, weight: u16) -> Result<Write, Error> {
    if !(10..=1000).contains(&weight) {
        return refuse(field, format!("weight {weight} is not in 10..=1000"));
    }
    let general = 1 + (u64::from(weight) - 10) * 9999 / 990;
    let instead = Absent::Instead("io.weight", format!("{device}{general}"));
    Ok(Write::new(field, "io.bfq.weight", format!("{device}{weight}")).or(instead))
}

/// All limits of a device are one line.
fn plan_throttles(block_io: &LinuxBlockIo, writes: &mut Vec<Write>) -> Result<(), Error> {
    let lists = [
        ("throttleReadBpsDevice", "rbps", block_io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "wbps", block_io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "riops", block_io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "wiops", block_io.throttle_write_iops_device()),
    ];
    let mut lines: BTreeMap<Device, (String, String)> = BTreeMap::new();
    for (field, key, list) in lists {
        for (index, throttle) in list.iter().flatten().enumerate() {
            let field = format!("blockIO.{field}[{index}]");
            let device = numbers(&field, throttle.major(), throttle.minor())?;
            let (fields, line) = lines.entry(device).or_default();
            if !fields.is_empty() {
                fields.push_str(", ");
            }
            fields.push_str(&field);
            line.push_str(&format!(" {key}={}", rate(throttle)));
        }
    }
    for ((major, minor), (fields, line)) in lines {
        writes.push(Write::new(&fields, "io.max", format!("{major}:{minor}{line}")));
    }
    Ok(())
}

/// The kernel takes no 0; here it lifts a limit.
fn rate(throttle: &LinuxThrottleDevice) -> String {
    match throttle.rate() {
        0 => "max".to_owned(),
        rate => rate.to_string(),
    }
}

fn numbers(field: &str, major: i64, minor: i64) -> Result<Device, Error> {
    let good = |number: i64| u32::try_from(number).is_ok();
    if good(major) && good(minor) {
        return Ok((major, minor));
    }
    refuse(field, format!("{major}:{minor} are no numbers of a device"))
}
