use super::*;

/// A frame as a broker sends it.
fn served(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(u8::try_from(len).unwrap()),
        len @ 126..=65_535 => {
            out.push(126);
            out.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            out.push(127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(payload);
    out
}

fn unframe(decoder: &mut Decoder, part: &[u8]) -> Vec<u8> {
    let mut bytes = part.to_vec();
    let plain = decoder.unframe(&mut bytes).unwrap();
    bytes.truncate(plain);
    bytes
}

/// What a frame of ours carries.
fn unmask(frame: &[u8]) -> (u8, Vec<u8>) {
    let header = header_len(frame);
    let mut whole = [0; 10];
    whole[..header].copy_from_slice(&frame[..header]);
    assert_eq!(frame[1] & 0x80, 0x80, "a client masks");
    let key = &frame[header..header + 4];
    let body = &frame[header + 4..];
    assert_eq!(body.len() as u64, payload_len(&whole));
    (frame[0], body.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect())
}

#[test]
fn every_length_is_framed_and_masked() {
    for len in [0, 1, 3, 15, 16, 17, 125, 126, 127, 65_535, 65_536, 100_001] {
        let payload: Vec<u8> = (0..=255).cycle().take(len).collect();
        let mut out = b"before".to_vec();
        put_binary(&mut out, &payload);
        let frame = out.strip_prefix(b"before").unwrap();
        assert_eq!(unmask(frame), (0x82, payload.clone()), "{len}");
        if len > 0 {
            assert_ne!(&frame[frame.len() - len..], payload, "{len} bytes went unmasked");
        }
    }
    let mut out = Vec::new();
    put_close(&mut out);
    assert_eq!(unmask(&out), (0x88, vec![3, 0xe8]));
}

#[test]
fn every_cut_of_the_broker_s_frames_gives_the_same_bytes() {
    let long = vec![7; 300];
    let mut stream = served(0x82, b"ab");
    stream.extend(served(0x02, b"c"));
    stream.extend(served(0x89, b"are you there"));
    stream.extend(served(0x00, b"")); // an empty fragment
    stream.extend(served(0x80, &long));
    stream.extend(served(0x8a, b"unasked"));
    stream.extend(served(0x82, b"d"));
    let wanted = [&b"abc"[..], &long, b"d"].concat();
    for first in 0..=stream.len() {
        for second in
            [first, (first + 1).min(stream.len()), stream.len() - (stream.len() - first) / 2]
        {
            let mut decoder = Decoder::default();
            let mut plain = unframe(&mut decoder, &stream[..first]);
            plain.extend(unframe(&mut decoder, &stream[first..second]));
            plain.extend(unframe(&mut decoder, &stream[second..]));
            assert_eq!(plain, wanted, "cut at {first} and {second}");
            assert_eq!(unmask(&decoder.pongs), (0x8a, b"are you there".to_vec()));
        }
    }
    let mut decoder = Decoder::default();
    let bytewise: Vec<u8> =
        stream.iter().flat_map(|byte| unframe(&mut decoder, &[*byte])).collect();
    assert_eq!(bytewise, wanted);
}

#[test]
fn a_frame_of_64_bit_length_is_read() {
    let large = vec![9; 70_000];
    let stream = served(0x82, &large);
    assert_eq!(frame_len(&stream), Ok(stream.len() as u64));
    assert_eq!(unframe(&mut Decoder::default(), &stream), large);
    assert_eq!((frame_len(&[]), frame_len(&[0x82, 127, 0])), (Err(2), Err(10)));
    assert_eq!((frame_len(&[0x82, 5]), frame_len(&[0x82, 126, 1, 0])), (Ok(7), Ok(260)));
}

#[test]
fn what_a_broker_may_not_send_is_refused() {
    for (why, stream) in [
        ("text", served(0x81, b"x")),
        ("masked", vec![0x82, 0x81, 1, 2, 3, 4, 5]),
        ("reserved bit", served(0xc2, b"x")),
        ("continues nothing", served(0x80, b"x")),
        ("ends nothing", [served(0x02, b"x"), served(0x82, b"x")].concat()),
        ("fragmented ping", served(0x09, b"x")),
        ("long ping", served(0x89, &[0; 126])),
        ("close", served(0x88, &[3, 0xe8])),
        ("close without a code", served(0x88, b"")),
    ] {
        assert!(Decoder::default().unframe(&mut stream.clone()).is_err(), "{why}");
    }
}

#[test]
fn the_upgrade_is_asked_for_and_checked() {
    let request = request("127.0.0.1:80".parse().unwrap());
    assert_eq!(response_len(request.as_bytes()), Some(request.len()));
    assert!(request.contains("Sec-WebSocket-Protocol: mqtt\r\n"));
    let good = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
                SEC-WEBSOCKET-ACCEPT: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                Sec-WebSocket-Protocol:mqtt\r\n\r\n";
    check_response(good.as_bytes()).unwrap();
    for (from, to) in [("101", "400"), ("s3pP", "S3pP"), ("mqtt", "chat")] {
        let bad = good.replace(from, to);
        assert!(check_response(bad.as_bytes()).is_err(), "{bad}");
    }
    for cut in 0..good.len() {
        assert_eq!(response_len(&good.as_bytes()[..cut]), None);
    }
    assert_eq!(response_len((good.to_owned() + "more").as_bytes()), Some(good.len()));
}
