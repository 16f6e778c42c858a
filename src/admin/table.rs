//! The one table of routes. Requests are answered by it, and the description of the interface is made from it.

use super::parameter::{Kind, Parameter};
use super::route::{Response, Route};
use super::{clients, explain, messages, metrics, openapi, page, program, status, stream};

const PLAIN: &[&str] = &["text/plain; charset=utf-8"];

pub(super) static ROUTES: &[Route] = &[
    Route::get("/", |asked| Box::pin(page::get(asked)))
        .says("The page for people.", &[
            Response::text(200, &["text/html; charset=utf-8"], "the page"),
            Response::nothing(304, "the client has this page"),
        ])
        .open(),
    Route::get("/livez", |asked| Box::pin(status::live(asked)))
        .says(
            "Whether the event loops of the broker run.",
            &[
                Response::text(200, PLAIN, "they run"),
                Response::text(503, PLAIN, "one of them is stuck"),
            ],
        )
        .open(),
    Route::get("/readyz", |asked| Box::pin(status::ready(asked)))
        .says("Whether the broker accepts Clients on all its listeners.", READY)
        .open(),
    Route::get("/status", |asked| Box::pin(status::ready(asked)))
        .says("As /readyz.", READY)
        .open(),
    Route::get("/api/v1/openapi.json", |asked| Box::pin(openapi::get(asked)))
        .says("This description.", &[Response::json(200, "Description", "OpenAPI 3.1")]),
    Route::get("/api/v1/status", |asked| Box::pin(status::get(asked)))
        .says("The figures of the broker.", &[Response::json(200, "Status", "the figures")]),
    Route::get("/metrics", |asked| Box::pin(metrics::get(asked))).says(
        "Metrics in the format of OpenMetrics where the client reads it, else in that of Prometheus.",
        &[Response::text(200, METRICS, "the metrics")],
    ),
    Route::get("/api/v1/history", |asked| Box::pin(status::history(asked))).says(
        "The last hour in steps of ten seconds, per second each, since the admin listener began.",
        &[Response::json(200, "History", "the samples, the oldest first")],
    ),
    Route::get("/api/v1/limits", |asked| Box::pin(status::limits(asked)))
        .says("How far each limit is used, and how often it refused something.", &[
            Response::json(200, "Limits", "every limit"),
        ]),
    Route::get("/api/v1/clients", |asked| Box::pin(clients::list(asked)))
        .says("The Sessions, whether their Clients are connected or not.", &[
            Response::page_of("Client", "a page of them"),
        ])
        .query(&[
            Parameter::new("search", Kind::Text, "a part of the Client Identifier, the user name or the address"),
            Parameter::new("connected", Kind::Flag, "only those that are connected, or that are not"),
            Parameter::new("slow", Kind::Flag, "only those that are slow, or that are not"),
            Parameter::new("sort", Kind::Choice(clients::ORDERS), "the order: by name, or the most first"),
            PAGE,
            LIMIT,
        ]),
    Route::get("/api/v1/clients/{clientId}", |asked| Box::pin(clients::one(asked)))
        .says("One Session; its rates since the last such request, if that was within a minute.", &[
            Response::json(200, "Client", "the Session"),
            NO_SESSION,
        ]),
    Route::delete("/api/v1/clients/{clientId}", |asked| Box::pin(clients::disconnect(asked)))
        .says("Disconnects a Client (0x98); its Session stays.", &[
            Response::nothing(204, "it is told to leave"),
            Response::error(404, "no such Client is connected"),
        ]),
    Route::get("/api/v1/clients/{clientId}/subscriptions", |asked| {
        Box::pin(clients::subscriptions(asked))
    })
    .says("The subscriptions of a Session.", &[
        Response::page_of("Subscription", "a page of them"),
        NO_SESSION,
    ])
    .query(&[PAGE, LIMIT]),
    Route::get("/api/v1/clients/{clientId}/queue", |asked| Box::pin(clients::queue(asked)))
        .says("The messages that a Session holds: those in flight, then those that wait.", &[
            Response::page_of("Queued", "a page of them"),
            NO_SESSION,
        ])
        .query(&[PAGE, LIMIT]),
    Route::get("/api/v1/subscriptions", |asked| Box::pin(clients::all_subscriptions(asked)))
        .says("The subscriptions of all Sessions.", &[
            Response::page_of("ClientSubscription", "a page of them"),
        ])
        .query(&[
            Parameter::new("filter", Kind::Filter, "only those whose Topic Filter begins with these levels"),
            Parameter::new("topic", Kind::Text, "only those that match this Topic Name"),
            PAGE,
            LIMIT,
        ]),
    Route::get("/api/v1/mqtt/retainer/messages", |asked| Box::pin(messages::retained(asked)))
        .says("The retained messages.", &[Response::page_of("Retained", "a page of them")])
        .query(&[
            Parameter::new("filter", Kind::Filter, "only those that this Topic Filter matches; # by default"),
            PAGE,
            LIMIT,
        ]),
    Route::delete("/api/v1/mqtt/retainer/messages", |asked| Box::pin(messages::clear(asked)))
        .says("Removes retained messages.", &[Response::json(200, "Cleared", "how many")])
        .query(&[
            Parameter::new("filter", Kind::Filter, "those that this Topic Filter matches").required(),
        ]),
    Route::post("/api/v1/publish", |asked| Box::pin(messages::publish(asked)))
        .says("Publishes a message of the Server; no access rule is asked.", &[
            Response::json(200, "Published", "how many subscribers it has"),
            Response::json(202, "Published", "it has no subscriber"),
            Response::error(409, "the Topic Name is beyond limits.topicLevelsMax or limits.topicBytesMax"),
        ])
        .reads("Message"),
    Route::get("/api/v1/listeners", |asked| Box::pin(program::listeners(asked)))
        .says("The listeners.", &[Response::json(200, "Listeners", "all of them")]),
    Route::post("/api/v1/listeners/{name}/start", |asked| Box::pin(program::start_listener(asked)))
        .says("Starts a listener of the configuration that was stopped.", STEERED),
    Route::post("/api/v1/listeners/{name}/stop", |asked| Box::pin(program::stop_listener(asked)))
        .says("Stops a listener and disconnects its Clients.", STEERED),
    Route::get("/api/v1/banned", |asked| Box::pin(program::banned(asked)))
        .says("The bans.", &[
            Response::page_of("Ban", "a page of them"),
            Response::error(409, "access.bansFile is not configured"),
        ])
        .query(&[PAGE, LIMIT]),
    Route::post("/api/v1/banned", |asked| Box::pin(program::ban(asked)))
        .says("Bans a Client, a user or an address, and closes its connections.", &[
            Response::json(201, "Ban", "the ban"),
            Response::error(409, "access.bansFile is not configured, or limits.bansMax is reached"),
        ])
        .reads("NewBan"),
    Route::delete("/api/v1/banned/{kind}/{who}", |asked| Box::pin(program::unban(asked))).says(
        "Ends a ban; the kind is clientId, userName or address.",
        &[
            Response::nothing(204, "it has ended"),
            Response::error(404, "there is no such ban"),
            Response::error(409, "access.bansFile is not configured"),
        ],
    )
    .query(&[
        Parameter::new("userName", Kind::Text, "with a clientId in the path: the user name of that ban"),
        Parameter::new("address", Kind::Text, "with a clientId in the path: the address of that ban"),
    ]),
    Route::post("/api/v1/explain", |asked| Box::pin(explain::answer(asked)))
        .says("Why a message does or does not reach a Client, or which rule decides.", &[
            Response::json(200, "Explanation", "the answer"),
            Response::error(404, "there is no Session of this Client Identifier"),
        ])
        .reads("Question"),
    Route::get("/api/v1/config", |asked| Box::pin(program::settings(asked))).says(
        "The configuration in force.",
        &[Response::json(200, "Settings", "every setting"), NO_OPERATOR],
    ),
    Route::post("/api/v1/reload", |asked| Box::pin(program::reload(asked)))
        .says("Reads the configuration again.", &[
            Response::json(200, "Changes", "what changed, or would change"),
            NO_OPERATOR,
            Response::error(422, "the new configuration has errors, and the old one stays in force"),
        ])
        .query(&[Parameter::new("dryRun", Kind::Flag, "only say what would change")]),
    Route::get("/api/v1/live", |asked| Box::pin(stream::live(asked))).says(
        "Once a second an event status with the figures, and an event slow with the ten slowest Clients.",
        EVENTS,
    ),
    Route::get("/api/v1/events", |asked| Box::pin(stream::events(asked))).says(
        "What happens, from now on; an event lagged says how many were lost because they were not read.",
        EVENTS,
    ),
    Route::get("/api/v1/tail", |asked| Box::pin(stream::tail(asked)))
        .says(
            "Messages as they pass, retained ones first; an event lost says how many were dropped because they were not \
             read. The stream is a subscriber like others, and the messages that it loses are in the books.",
            EVENTS,
        )
        .query(&[Parameter::new("filter", Kind::Filter, "the Topic Filter").required()]),
];

const PAGE: Parameter = Parameter::new(
    "page",
    Kind::Number { minimum: 1, maximum: 1_000_000_000 },
    "the page, counted from 1",
);
const LIMIT: Parameter =
    Parameter::new("limit", Kind::Number { minimum: 1, maximum: 1_000 }, "items of a page");

const NO_SESSION: Response = Response::error(404, "there is no Session of this Client Identifier");

const NO_OPERATOR: Response =
    Response::error(409, "the program that runs the broker offers no such thing");

const STEERED: &[Response] = &[
    Response::json(200, "Listener", "the listener after it"),
    Response::error(404, "the configuration has no such listener"),
    Response::error(409, "it is so already, or its address cannot be bound"),
];

const EVENTS: &[Response] = &[
    Response::text(200, &["text/event-stream"], "the events"),
    Response::error(409, "limits.sessionsMax is reached"),
];

const METRICS: &[&str] = &["text/plain", "application/openmetrics-text"];

const READY: &[Response] = &[
    Response::text(200, PLAIN, "it accepts Clients"),
    Response::text(503, PLAIN, "the reason why it does not"),
];
