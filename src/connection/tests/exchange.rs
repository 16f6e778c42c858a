//! Enhanced authentication (section 4.12): what AUTH does in each state.

use super::*;

fn with_method() -> Ask {
    Ask { properties: vec![property(0x15, &string("SCRAM-SHA-1"))], ..Ask::new(V5) }
}

fn auth(reason: u8, method: &str, data: &[u8]) -> Vec<u8> {
    let properties = [property(0x15, &string(method)), property(0x16, &binary(data))];
    packet(0xF0, &[vec![reason], section(&properties)])
}

/// An exchange in which the Server waits for the Client.
fn exchanging(ask: &Ask) -> Connection {
    let mut connection = open(ask, Limits::default());
    let mut out = Vec::new();
    connection.ask(b"one", &mut out).unwrap();
    assert_eq!(Written::parse(&out).byte(), 0x18, "MQTT-4.12.0-2");
    connection
}

#[test]
fn an_authentication_goes_step_by_step_and_ends_in_a_connack_mqtt_4_12_0_5() {
    let mut connection = exchanging(&with_method());
    let (action, _) = handle(&mut connection, &auth(0x18, "SCRAM-SHA-1", b"four"));
    assert_eq!(action.unwrap(), "auth false 4");
    let mut out = Vec::new();
    connection.ask(b"two", &mut out).unwrap();
    assert_eq!(handle(&mut connection, &auth(0x18, "SCRAM-SHA-1", b"")).0.unwrap(), "auth false 0");
    out.clear();
    let rare = connection.rare.as_mut().unwrap();
    rare.method.as_mut().unwrap().data = b"three".to_vec();
    connection.accept(&plain(), &mut out);
    let mut read = Written::parse(&out);
    assert_eq!((read.header, read.byte(), read.byte()), (0x20, 0, 0));
    let properties = read.properties();
    for (id, value) in [(0x15, &b"SCRAM-SHA-1"[..]), (0x16, b"three")] {
        assert!(properties.contains(&(id, value.to_vec())), "{properties:02X?}");
    }
    assert_eq!(handle(&mut connection, &auth(0x19, "SCRAM-SHA-1", b"x")).0.unwrap(), "auth true 1");
    out.clear();
    connection.accept_again(b"", &mut out).unwrap();
    assert_eq!(Written::parse(&out).byte(), 0x00);
}

#[test]
fn before_connack_a_client_with_a_method_sends_auth_or_disconnect_mqtt_3_1_2_30() {
    for (bytes, _) in rows(V5) {
        let mut connection = exchanging(&with_method());
        let is_disconnect = bytes[0] == 0xE0;
        match handle(&mut connection, &bytes).0 {
            Ok(action) => assert!(is_disconnect && action.starts_with("leave"), "{action}"),
            Err(fault) => {
                assert!(!is_disconnect && matches!(fault, Fault::Protocol(_)), "{fault}");
                assert_eq!(last_words(&refused(&mut connection, fault)), {
                    (2, 0x82, Some(fault.detail().to_owned()))
                });
            }
        }
    }
}

#[test]
fn an_auth_of_another_method_or_at_another_time_is_a_protocol_error_mqtt_4_12_1_1() {
    for bytes in [auth(0x18, "SCRAM-SHA-2", b""), auth(0x19, "SCRAM-SHA-1", b"")] {
        let fault = handle(&mut exchanging(&with_method()), &bytes).0.unwrap_err();
        assert!(matches!(fault, Fault::Protocol(_)), "{fault}");
    }
    let mut connection = connected_with(&with_method(), Limits::default());
    let fault = handle(&mut connection, &auth(0x19, "SCRAM-SHA-2", b"")).0.unwrap_err();
    assert_eq!(last_words(&refused(&mut connection, fault)).1, 0x82);
}

#[test]
fn before_connack_an_auth_is_as_small_as_a_connect_pitfall_1() {
    let limits = Limits { connect_packet_bytes_max: 128, ..Limits::default() };
    let mut connection = open(&with_method(), limits);
    connection.ask(b"", &mut Vec::new()).unwrap();
    assert_eq!(connection.packet_bytes_max(), 128);
}

#[test]
fn an_auth_that_the_client_cannot_take_is_not_sent_mqtt_3_1_2_24() {
    let mut ask = with_method();
    ask.properties.push(property(0x27, &60_u32.to_be_bytes()));
    let mut connection = open(&ask, Limits::default());
    let mut out = Vec::new();
    assert!(connection.ask(&[0; 60], &mut out).is_err() && out.is_empty());
    let bytes = ask.bytes();
    let connect = decode::decode_connect(0x10, &bytes[2..]).unwrap();
    assert!(connection.grant(&connect, vec![0; 60]).is_err(), "CONNACK neither");
    assert!(connection.grant(&connect, vec![0; 10]).is_ok());
}
