//! PostgreSQL on a claim, under pgbench: whatever is killed, everything acknowledged is there again, on a clean file system.
use crate::SOON;
use crate::storage::images;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use testkit::images::POSTGRES;
use testkit::{Background, Cluster, Process, Tool};

const DATABASE: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: postgres}
spec:
  replicas: 1
  strategy: {type: Recreate}
  selector: {matchLabels: {app: postgres}}
  template:
    metadata: {labels: {app: postgres}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: postgres
        image: postgres:15
        env: [{name: POSTGRES_PASSWORD, value: testpass}]
        readinessProbe: {exec: {command: [pg_isready, --host=127.0.0.1]}, periodSeconds: 1}
        volumeMounts: [{name: data, mountPath: /var/lib/postgresql/data}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
---
apiVersion: v1
kind: Service
metadata: {name: postgres}
spec: {type: NodePort, selector: {app: postgres}, ports: [{port: 5432, nodePort: 30432}]}
";
const CLIENTS: u64 = 4;
/// Transactions that are acknowledged before anything is killed.
const BEFORE: u64 = 100;

/// Clients outside of the cluster, which nothing that is killed takes along.
struct Clients {
    outside: Tool,
    address: String,
    /// PostgreSQL's own programs; their record of what was acknowledged is below `record`.
    programs: TempDir,
    runs: u32,
}

impl Clients {
    fn of(cluster: &Cluster) -> Self {
        let programs = TempDir::new().expect("a directory");
        POSTGRES.unpack(programs.path());
        std::fs::create_dir(programs.path().join("record")).expect("a directory can be made");
        Self { outside: cluster.outside(), address: cluster.host.address.clone(), programs, runs: 0 }
    }

    fn line(&self, program: &str) -> String {
        let (root, address) = (self.programs.path().display(), &self.address);
        let environment = format!("PGHOST={address} PGPORT=30432 PGUSER=postgres PGPASSWORD=testpass PGCONNECT_TIMEOUT=5 LC_ALL=C.UTF-8");
        format!("{environment} chroot {root} /usr/lib/postgresql/15/bin/{program}")
    }

    fn ask(&self, statement: &str) -> u64 {
        let line = self.line(&format!("psql -qtA -c '{statement}'"));
        self.outside.until(&line, 2 * SOON, |answer| answer.parse::<u64>().is_ok()).parse().expect("it was just parsed")
    }

    /// Starts transactions, for so many seconds; each appends a row to `pgbench_history`.
    fn start(&mut self, seconds: u32) -> Background {
        self.runs += 1;
        let run = self.runs;
        let options = format!("-n -c {CLIENTS} -T {seconds} -l --log-prefix=/record/{run}");
        self.outside.background(&self.line(&format!("pgbench {options}")))
    }

    /// How many transactions the clients of the last run were told to be committed. They write it down in the end.
    fn acknowledged(&self) -> u64 {
        let entries = std::fs::read_dir(self.programs.path().join("record")).expect("the record is there").flatten();
        let of_run = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{}.", self.runs)));
        of_run.map(|entry| std::fs::read_to_string(entry.path()).expect("it is text").lines().count() as u64).sum()
    }
}

fn committed(clients: &Clients) -> u64 {
    clients.ask("SELECT count(*) FROM pgbench_history")
}

/// Nothing acknowledged is lost, nothing was done twice or by half.
fn check(clients: &Clients, before: u64) {
    let (acknowledged, committed) = (clients.acknowledged(), committed(clients) - before);
    assert!(acknowledged >= BEFORE / 2, "only {acknowledged} transactions were acknowledged");
    // A client whose connection broke may have had one more committed than it was told.
    assert!((acknowledged..=acknowledged + CLIENTS).contains(&committed), "{acknowledged} were acknowledged, {committed} are there");
    let differing = "SELECT count(DISTINCT sum) FROM (SELECT sum(abalance) FROM pgbench_accounts UNION ALL SELECT sum(tbalance) FROM pgbench_tellers \
        UNION ALL SELECT sum(bbalance) FROM pgbench_branches UNION ALL SELECT sum(delta) FROM pgbench_history) AS sums";
    assert_eq!(clients.ask(differing), 1, "a transaction was done by half");
}

fn kill_all(processes: impl IntoIterator<Item = Process>) {
    for process in processes {
        // A child may have ended with its parent.
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
}

fn is_running(kubectl: &Tool) {
    kubectl.sh("kubectl rollout status deployment/postgres --timeout=120s").ok();
    kubectl.until_it_prints(
        "kubectl get pods -l app=postgres -o jsonpath='{.items[*].status.phase} {.items[*].status.containerStatuses[0].ready}'",
        "Running true",
    );
}

/// Takes the volume down, looks at it, and gives it to a pod again.
fn check_file_system(cluster: &Cluster, kubectl: &Tool) {
    kubectl.sh("kubectl scale deployment postgres --replicas=0").ok();
    testkit::wait_until("the volume is detached", SOON, || cluster.remains().loop_devices.is_empty());
    let [image]: [PathBuf; 1] = images(cluster).try_into().expect("there is one volume");
    let checked = Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(&image).output().expect("e2fsck is installed");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    kubectl.sh("kubectl scale deployment postgres --replicas=1").ok();
    is_running(kubectl);
}

#[test]
fn no_committed_transaction_is_lost_whatever_is_killed() {
    let mut cluster = Cluster::with_images(&[POSTGRES]);
    let kubectl = cluster.tool();
    kubectl.until("kubectl get storageclass -o name", SOON, |text| text.contains("lightningstor-ssd"));
    kubectl.apply(DATABASE);
    is_running(&kubectl);
    let mut clients = Clients::of(&cluster);
    clients.ask("SELECT 1");
    clients.outside.sh(&clients.line("pgbench -i -q")).ok();
    let database = |process: &Process| process.command.starts_with("postgres");
    let under_way = |clients: &Clients, before: u64| testkit::wait_until("transactions are made", SOON, || committed(clients) >= before + BEFORE);

    // The server, which is the node's agent as well: the database and its clients notice nothing.
    let before = committed(&clients);
    let mut run = clients.start(20);
    under_way(&clients, before);
    cluster.server.end(Signal::SIGKILL);
    let (succeeded, printed) = run.until_ended(SOON);
    assert!(succeeded && printed.contains("number of failed transactions: 0"), "{printed}");
    assert_eq!(committed(&clients) - before, clients.acknowledged());
    cluster.server.launch();
    cluster.wait_for_node();
    is_running(&kubectl);
    check(&clients, before);
    check_file_system(&cluster, &kubectl);

    // All processes of the pod.
    let before = committed(&clients);
    let mut run = clients.start(300);
    under_way(&clients, before);
    kill_all(cluster.remains().processes.into_iter().filter(database));
    assert!(!run.until_ended(SOON).0, "the clients noticed nothing");
    check(&clients, before);
    is_running(&kubectl);
    check_file_system(&cluster, &kubectl);

    // All at once: the server, containerd, its shims, and what they ran.
    let before = committed(&clients);
    let mut run = clients.start(300);
    under_way(&clients, before);
    kill_all(cluster.remains().processes);
    cluster.server.end(Signal::SIGKILL);
    kill_all(cluster.remains().processes);
    assert!(!run.until_ended(SOON).0, "the clients noticed nothing");
    cluster.server.launch();
    cluster.wait_for_node();
    is_running(&kubectl);
    check(&clients, before);
    check_file_system(&cluster, &kubectl);
    assert_eq!(images(&cluster).len(), 1);
}
