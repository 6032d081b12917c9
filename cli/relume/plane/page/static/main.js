// The page begins here: each part shows its own section of what the stream tells.

import * as brokers from "./brokers.js";
import * as coldstarts from "./coldstarts.js";
import * as events from "./events.js";
import * as figures from "./figures.js";
import * as jobs from "./jobs.js";
import * as letters from "./letters.js";
import * as playground from "./playground.js";
import * as services from "./services.js";
import { connect } from "./stream.js";

for (const part of [figures, services, coldstarts, brokers, events, jobs, letters, playground]) part.start();
connect();
