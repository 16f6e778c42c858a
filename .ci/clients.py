"""usage: clients.py HOST PORT PATH: drives a broker over WebSocket with paho-mqtt, MQTT 3.1.1 and 5."""

import queue
import sys

import paho.mqtt.client as mqtt

DEADLINE = 60


def client(version, name):
    """A connected Client, and a queue of what reaches it."""
    made = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=name, transport="websockets", protocol=version
    )
    events = queue.Queue()
    made.on_connect = lambda c, u, flags, reason, p: events.put(("connect", reason.is_failure))
    made.on_subscribe = lambda c, u, mid, reasons, p: events.put(
        ("subscribe", any(reason.is_failure for reason in reasons))
    )
    made.on_message = lambda c, u, m: events.put((m.topic, m.payload, m.qos))
    made.ws_set_options(path=sys.argv[3])
    made.connect(sys.argv[1], int(sys.argv[2]))
    made.loop_start()
    expect(events, ("connect", False))
    return made, events


def expect(events, wanted):
    got = events.get(timeout=DEADLINE)
    assert got == wanted, f"{got} instead of {wanted}"


for version, label in ((mqtt.MQTTv311, "3.1.1"), (mqtt.MQTTv5, "5")):
    subscriber, events = client(version, f"paho-sub-{version}")
    publisher, _ = client(version, f"paho-pub-{version}")
    for qos in (0, 1, 2):
        topic = f"paho/{version}/{qos}"
        subscriber.subscribe(topic, qos)
        expect(events, ("subscribe", False))
        # Small, larger than one WebSocket length field, and larger than the next.
        for size in (5, 200, 100_000):
            publisher.publish(topic, b"x" * size, qos).wait_for_publish(DEADLINE)
            expect(events, (topic, b"x" * size, qos))
    for one in (subscriber, publisher):
        one.disconnect()
        one.loop_stop()
    print(f"paho-mqtt over ws, {label}: QoS 0, 1 and 2")
