//! Files with access rules, and tokens, by target.

use crate::hand::texts;

pub(crate) fn all() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    vec![
        ("acl_file", texts(ACL_FILE)),
        ("bans", texts(BANS)),
        ("dynamic_security", texts(DYNAMIC_SECURITY)),
        ("jwt", texts(JWT)),
        ("password_file", texts(PASSWORD_FILE)),
    ]
}

const ACL_FILE: &[&str] = &[
    "c\tann\thome/lamp\ntopic read #\nuser ann\ntopic readwrite home/#\ntopic deny home/secret\npattern write %c/%u/#\n",
    "c\t\thome/#\ntopic read home/+\ntopic deny home/a\npattern deny %c/#\npattern read $x/#",
    "a/b\tu/v\tp/a/b/u/v\npattern %c/x\npattern p/%c/%u\npattern readwrite %u",
    "$SYS\t\t$SYS/x\npattern %c/#\ntopic +/x\ntopic deny $SYS/#",
    "+\tann\ta\npattern a\nuser ann\ntopic a b\ntopic read a b\n",
    "c\ta b\td e\nuser  a b \ntopic write  d e \n topic f\r\n# x\n",
    "c\t\t+/+\ntopic read a/b\ntopic deny a/+\ntopic read /#",
    "c\t\ta\nTopic a\ntopic\ta\ntopic a/#/b\ntopic deny\npattern x%c\ntopic $share/g/a\nuser\n # c",
    "c\t\ta\n",
    "",
];

const BANS: &[&str] = &[
    "",
    "{\"bans\": []}",
    "{\"bans\": [{\"client\": \"c1\", \"by\": \"ann\", \"reason\": \"noise\", \"from\": \"2026-01-01T00:00:00Z\"}]}",
    "{\"bans\": [{\"address\": \"192.0.2.0/24\", \"until\": \"2037-12-31T23:59:59Z\"}, {\"user\": \"\u{e9}\"}, {\"address\": \"2001:db8::/32\"}]}",
    "{\"bans\": [{\"client\": \"\"}, {\"client\": \"a\", \"user\": \"b\"}, {}, {\"address\": \"x/99\"}, {\"until\": \"2026-02-30T25:00:00Z\", \"client\": \"d\"}]}",
    "{\"bans\": [{\"client\": \"c\"}, {\"client\": \"c\"}], \"ban\": 1}",
];

const DYNAMIC_SECURITY: &[&str] = &[
    "{}",
    "{\"defaultACLAccess\": {\"publishClientSend\": false, \"publishClientReceive\": true, \"subscribe\": false, \"unsubscribe\": true}}",
    "{\"clients\": [{\"username\": \"ann\", \"textname\": \"x\", \"clientid\": \"c\", \"password\": \"AQIDBAUGBwgJCgsM\", \"salt\": \"AQIDBAUGBwgJCgsM\", \"iterations\": 101, \"roles\": [{\"rolename\": \"r\", \"priority\": 3}], \"groups\": []}], \"roles\": [{\"rolename\": \"r\", \"acls\": [{\"acltype\": \"subscribePattern\", \"topic\": \"a/%c/#\", \"priority\": -1, \"allow\": true}]}]}",
    "{\"anonymousGroup\": \"g\", \"groups\": [{\"groupname\": \"g\", \"roles\": [{\"rolename\": \"r\"}], \"clients\": [{\"username\": \"ann\"}]}], \"roles\": [{\"rolename\": \"r\", \"allowwildcardsubs\": false, \"acls\": [{\"acltype\": \"publishClientSend\", \"topic\": \"#\", \"allow\": false}]}], \"clients\": [{\"username\": \"ann\", \"disabled\": true, \"encoded_password\": \"$7$101$AQID$AQID\"}]}",
    "{\"roles\": [{\"rolename\": \"r\", \"acls\": [{\"acltype\": \"publish\", \"topic\": \"a/#/b\"}]}, {\"rolename\": \"r\"}], \"clients\": [{\"username\": \"\", \"roles\": [{\"rolename\": \"x\"}]}, 3]}",
    "[]",
];

const JWT: &[&str] = &[
    "{\"alg\":\"HS256\",\"typ\":\"JWT\"}\n{\"sub\":\"ann\",\"exp\":4102444800}",
    "{\"alg\":\"HS256\"}\n{\"sub\":\"ann\",\"exp\":4102444800.5,\"nbf\":1,\"acl\":{\"pub\":[\"a/${clientid}/#\"],\"sub\":[\"+/b\"],\"all\":[\"${username}\"]}}",
    "{\"alg\":\"none\"}\n{\"sub\":\"ann\",\"exp\":4102444800}",
    "{\"alg\":\"HS512\",\"kid\":\"1\"}\n{\"sub\":\"ann\",\"exp\":4102444800}",
    "{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}\n{\"sub\":\"ann\",\"exp\":4102444800}",
    "{\"alg\":\"HS256\"}\n{\"sub\":\"\",\"exp\":1,\"acl\":{\"pub\":\"#\"},\"aud\":[\"x\"],\"iss\":3}",
    "{\"alg\":\"HS256\",\"alg\":\"none\"}\n{\"sub\":\"ann\",\"exp\":\"4102444800\"}",
    "eyJhbGciOiJub25lIn0.e30.",
    "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AQIDBAUGBwgJCgsMAQIDBAUGBwgJCgsMAQIDBAUGBwgJCgsMAQID\",\"kid\":\"a\"},{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}",
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n",
];

const PASSWORD_FILE: &[&str] = &[
    "",
    "# nobody\n\n",
    "ann:$7$101$AQIDBAUGBwgJCgsM$8C5Ksw65ZPUZhxxcZ5CRm6+mz+H+OJ/bTFpFz2nrcNddtpY4IlmDtnDvLz5dDCUhtzg/5luRH/h5ssL3Y/u5dQ==\n",
    "old:$6$AQIDBAUGBwgJCgsM$8C5Ksw65ZPUZhxxcZ5CRm6+mz+H+OJ/bTFpFz2nrcNddtpY4IlmDtnDvLz5dDCUhtzg/5luRH/h5ssL3Y/u5dQ==\r\n",
    "bob:$argon2id$v=19$m=47104,t=1,p=1$AQIDBAUGBwgJCgsMDQ4PEA$AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA\n",
    "ann:secret\nann:$7$0$AA==$AA==\n:$6$AA==$AA==\nbob\nbob:$9$x\n",
    "a b:$7$4294967296$AQID$AQID\n\u{e9}:$argon2id$v=19$m=4294967295,t=0,p=9$AQ$AQ\n",
];
