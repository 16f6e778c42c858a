"""paho_client.py URL [CA_FILE]: paho-mqtt over ws, wss or mqtts, 3.1, 3.1.1 and 5."""

import queue
import sys
import threading
import time
from urllib.parse import urlparse

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

URL = urlparse(sys.argv[1])
CA_FILE = sys.argv[2] if len(sys.argv) > 2 else None
PORTS = {"ws": 80, "wss": 443, "mqtts": 8883}
RUN = f"paho{time.time_ns() % 1_000_000_000}"
DEADLINE = 60
failed = False


class Peer:
    def __init__(self, version, name, clean=True, will=None):
        v5 = version == mqtt.MQTTv5
        options = {} if v5 else {"clean_session": clean}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=RUN + name,
            protocol=version,
            transport="websockets" if URL.scheme in ("ws", "wss") else "tcp",
            **options,
        )
        if URL.scheme in ("ws", "wss"):
            self.client.ws_set_options(path=URL.path or "/")
        if URL.scheme in ("wss", "mqtts"):
            self.client.tls_set(ca_certs=CA_FILE)
        self.messages = queue.Queue()
        self.acked = queue.Queue()
        self.connected = queue.Queue()
        self.closed = threading.Event()
        self.client.on_connect = lambda c, u, flags, code, props: self.connected.put((flags, code))
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.on_subscribe = lambda c, u, mid, codes, props: self.acked.put(codes)
        self.client.on_disconnect = lambda *_: self.closed.set()
        if will:
            self.client.will_set(will, "gone", qos=1)
        options = {}
        if v5:
            options["clean_start"] = clean
            if not clean:
                options["properties"] = Properties(PacketTypes.CONNECT)
                options["properties"].SessionExpiryInterval = 3600
        self.client.connect(URL.hostname, URL.port or PORTS[URL.scheme], **options)
        self.client.loop_start()
        flags, code = self.connected.get(timeout=DEADLINE)
        assert not code.is_failure, code
        self.session_present = flags.session_present

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        return self.acked.get(timeout=DEADLINE)

    def publish(self, *args, **options):
        info = self.client.publish(*args, **options)
        info.wait_for_publish(timeout=DEADLINE)
        assert info.is_published()

    def message(self):
        return self.messages.get(timeout=DEADLINE)

    def disconnect(self):
        self.client.disconnect()
        assert self.closed.wait(DEADLINE)
        self.client.loop_stop()

    def break_off(self):
        self.client.loop_stop()
        self.client.socket().close()


def check(name, what):
    global failed
    try:
        what()
        print(f"ok     paho-mqtt over {URL.scheme}: {name}", flush=True)
    except Exception as e:  # a check reports whatever went wrong
        failed = True
        print(f"failed paho-mqtt over {URL.scheme}: {name}: {type(e).__name__} {e}", flush=True)


def every_qos(version, label):
    sub, pub = Peer(version, "s"), Peer(version, "p")
    for qos in range(3):
        topic = f"{RUN}/{label}/{qos}"
        sub.subscribe(topic, 2)
        # Small, larger than one WebSocket length field can say, and larger than the next.
        for size in (5, 200, 200_000):
            payload = (bytes(range(256)) * (size // 256 + 1))[:size]
            pub.publish(topic, payload, qos=qos)
            message = sub.message()
            assert message.payload == payload
            assert (message.topic, message.qos, message.retain) == (topic, qos, False), message
    sub.disconnect()
    pub.disconnect()


def retained(version, label):
    topic = f"{RUN}/{label}/retained"
    pub = Peer(version, "p")
    pub.publish(topic, "kept", qos=1, retain=True)
    sub = Peer(version, "s")
    sub.subscribe(topic, 1)
    message = sub.message()
    assert (message.payload, message.retain) == (b"kept", True), message.payload
    pub.publish(topic, "", qos=1, retain=True)
    sub.disconnect()
    pub.disconnect()


def will(version, label):
    topic = f"{RUN}/{label}/will"
    sub = Peer(version, "s")
    sub.subscribe(topic, 1)
    Peer(version, "d", will=topic).break_off()
    assert sub.message().payload == b"gone"
    sub.disconnect()


def persistent(version, label):
    topic = f"{RUN}/{label}/persistent"
    sub = Peer(version, "k" + label, clean=False)
    sub.subscribe(topic, 1)
    sub.disconnect()
    pub = Peer(version, "p")
    pub.publish(topic, "waiting", qos=1)
    sub = Peer(version, "k" + label, clean=False)
    # CONNACK of 3.1 has no Session Present.
    assert sub.session_present or version == mqtt.MQTTv31
    assert sub.message().payload == b"waiting"
    sub.disconnect()
    pub.disconnect()


def properties():
    topic = f"{RUN}/properties"
    sub, pub = Peer(mqtt.MQTTv5, "s"), Peer(mqtt.MQTTv5, "p")
    sub.subscribe(topic, 1)
    props = Properties(PacketTypes.PUBLISH)
    props.UserProperty = [("b", "1"), ("a", "2")]
    props.ContentType = "text/plain"
    props.ResponseTopic = "answers"
    props.CorrelationData = b"\x00\x01"
    pub.publish(topic, "x", qos=1, properties=props)
    came = sub.message().properties
    assert came.UserProperty == [("b", "1"), ("a", "2")], came.UserProperty
    assert (came.ContentType, came.ResponseTopic) == ("text/plain", "answers")
    assert came.CorrelationData == b"\x00\x01"
    sub.disconnect()
    pub.disconnect()


for version, label in ((mqtt.MQTTv31, "3.1"), (mqtt.MQTTv311, "3.1.1"), (mqtt.MQTTv5, "5")):
    for what in (every_qos, retained, will, persistent):
        check(f"{label} {what.__name__.replace('_', ' ')}", lambda: what(version, label))
check("5 properties", properties)
sys.exit(1 if failed else 0)
