use super::*;

fn collect(bytes: &[u8]) -> (Vec<Packet<'_>>, usize) {
    let mut packets = Vec::new();
    let used = each_packet(Version::V311, bytes, |packet| packets.push(packet)).unwrap();
    (packets, used)
}

#[test]
fn a_user_shows_name_and_password() {
    let user = User { name: "u".to_owned(), password: "pw".to_owned() };
    let packet = connect_by(Version::V311, "c", 60, Some(&user));
    let wanted = b"\x10\x14\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01c\x00\x01u\x00\x02pw";
    assert_eq!(packet, wanted);
    assert_eq!(connect_by(Version::V5, "c", 60, None), connect_as(Version::V5, "c", 60));
}

#[test]
fn connect_and_subscribe_are_the_standard_s_bytes() {
    assert_eq!(connect("ab", 60), b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02ab");
    assert_eq!(subscribe(7, "a/+", 1), b"\x82\x08\x00\x07\x00\x03a/+\x01");
}

#[test]
fn unsubscribe_and_a_retained_publish_are_the_standard_s_bytes() {
    assert_eq!(unsubscribe(7, "a/+"), b"\xa2\x07\x00\x07\x00\x03a/+");
    let stamp = Stamp { publisher: 1, sequence: 2, time_ns: 3 };
    let mut out = Vec::new();
    put_publish(&mut out, true, "t", 0, stamp);
    put_publish(&mut out, false, "t", 17, stamp);
    let (cleared, stamped) = out.split_at(5);
    assert_eq!(cleared, b"\x31\x03\x00\x01t");
    assert_eq!(stamped[0], 0x30);
    let (packets, used) = collect(stamped);
    assert_eq!(used, 22);
    let [Packet::Publish { payload, .. }] = packets[..] else { unreachable!("one PUBLISH") };
    assert_eq!((payload.len(), Stamp::read(payload)), (17, Some(stamp)));
}

#[test]
fn a_stamped_publish_reads_back() {
    for payload_len in [0, 16, 64, 100, 16_384, 2_097_152] {
        for (version, qos) in
            [(Version::V311, 0), (Version::V311, 2), (Version::V5, 0), (Version::V5, 1)]
        {
            let mut template = Template::new(version, qos, "bench/0001", payload_len);
            let stamp = Stamp { publisher: 3, sequence: 70_000, time_ns: u64::MAX - 1 };
            let mut out = b"before".to_vec();
            template.append(&mut out, stamp, 258);
            let out = out.strip_prefix(b"before").unwrap();
            assert_eq!(out.len(), template.len());
            assert_eq!(template.stamped(stamp, 258), out);
            let mut seen = 0;
            let used = each_packet(version, out, |packet| {
                let packet_id = (qos > 0).then_some(258);
                let Packet::Publish { qos: with, packet_id: id, payload } = packet else {
                    unreachable!("{payload_len} did not give a PUBLISH");
                };
                assert_eq!((with, id), (qos, packet_id));
                assert_eq!(payload.len(), payload_len.max(STAMP_LEN));
                assert_eq!(Stamp::read(payload), Some(stamp));
                seen += 1;
            });
            assert_eq!((used, seen), (Ok(out.len()), 1));
        }
    }
}

#[test]
fn mqtt_5_has_properties() {
    assert_eq!(
        connect_as(Version::V5, "ab", 60),
        b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02ab"
    );
    assert_eq!(subscribe_as(Version::V5, 7, "a", 2), b"\x82\x07\x00\x07\x00\x00\x01a\x02");
    let mut bytes = b"\x20\x06\x00\x00\x03\x21\x00\x14".to_vec();
    bytes.extend(b"\x90\x09\x00\x07\x05\x1f\x00\x02no\x97");
    bytes.extend(b"\x34\x0a\x00\x01t\x00\x09\x02\x01\x01hi");
    bytes.extend(b"\x40\x02\x00\x01\x40\x03\x00\x02\x10\x50\x04\x00\x03\x80\x00");
    bytes.extend(b"\x62\x02\x00\x04\x70\x03\x00\x05\x92\xe0\x01\x8e\xe0\x00");
    let mut packets = Vec::new();
    let used = each_packet(Version::V5, &bytes, |packet| packets.push(packet));
    assert_eq!(used, Ok(bytes.len()));
    let publish = Packet::Publish { qos: 2, packet_id: Some(9), payload: b"hi" };
    let acks = [
        Packet::PubAck(1, 0),
        Packet::PubAck(2, 0x10),
        Packet::PubRec(3, 0x80),
        Packet::PubRel(4),
        Packet::PubComp(5),
        Packet::Disconnect(0x8e),
        Packet::Disconnect(0),
    ];
    let before = [Packet::ConnAck(0), Packet::SubAck(7, 0x97), publish];
    assert_eq!(packets, before.into_iter().chain(acks).collect::<Vec<_>>());
}

#[test]
fn what_a_broker_announces_is_found_among_its_properties() {
    let mut properties = b"\x11\x00\x00\x00\x01\x12\x00\x02id".to_vec();
    properties.extend(b"\x26\x00\x01a\x00\x02bc\x24\x01\x25\x00\x22\x00\x0a");
    properties.extend(b"\x21\x00\x14\x27\x00\x01\x00\x00\x13\x00\x09\x16\x00\x01x");
    let mut body = vec![0, 0, u8::try_from(properties.len()).unwrap()];
    body.extend(&properties);
    let wanted = Announced { receive_maximum: 20, maximum_qos: 1, maximum_packet_size: 65_536 };
    assert_eq!(Announced::read(&body), Ok(wanted));
    assert_eq!(Announced::read(&[0, 0, 0]), Ok(Announced::default()));
    for wrong in
        [&b"\0\0"[..], b"\0\0\x01", b"\0\0\x01\x21", b"\0\0\x02\x7f\x00", b"\0\0\x03\x12\0\x09"]
    {
        assert!(Announced::read(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn every_cut_of_a_stream_waits_for_the_rest() {
    let mut bytes = b"\x20\x02\x00\x05\x90\x03\x00\x07\x80".to_vec();
    bytes.extend(b"\x32\x07\x00\x01t\x00\x09hi\xd0\x00");
    let whole = [
        Packet::ConnAck(5),
        Packet::SubAck(7, 0x80),
        Packet::Publish { qos: 1, packet_id: Some(9), payload: b"hi" },
        Packet::Other(13),
    ];
    for cut in 0..=bytes.len() {
        let (mut packets, used) = collect(&bytes[..cut]);
        assert!(used <= cut);
        let (rest, rest_used) = collect(&bytes[used..]);
        assert_eq!(used + rest_used, bytes.len());
        packets.extend(rest);
        assert_eq!(packets, whole, "cut at {cut}");
    }
}

#[test]
fn what_is_not_mqtt_is_refused() {
    for bytes in [
        &b"\x30\x80\x80\x80\x80\x01"[..],
        b"\x30\x01\x00",
        b"\x30\x02\x00\x05",
        b"\x32\x03\x00\x00\x01",
        b"\x20\x01\x00",
        b"\x90\x02\x00\x01",
        b"\x10\x00",
        b"\x00\x00",
        b"\xe0\x00",
        b"\x40\x01\x00",
        b"\x36\x02\x00\x00",
    ] {
        assert!(each_packet(Version::V311, bytes, |_| ()).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_payload_without_a_stamp_is_no_stamp() {
    assert_eq!(Stamp::read(&[0; STAMP_LEN - 1]), None);
}
